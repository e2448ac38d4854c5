"""What a visitor does on any tab."""


def write(page):
    page.locator("button.start:visible").click()


def open_tab(page, name):
    """On a phone, tabs that have no room are in a menu."""
    tab = page.get_by_role("tab", name=name)
    if tab.is_visible():
        tab.click()
    else:
        page.locator(".overflow-menu > button").click()
        page.locator(".overflow-dropdown button", has_text=name).click()
