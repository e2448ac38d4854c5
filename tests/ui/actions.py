"""What a visitor does on any tab."""

PROMPT = "Once upon a time, in a small village by the sea,"


def set_number(page, name, value):
    field = page.locator(f".settings:visible input[aria-label='number input for {name}']")
    if not field.is_visible():
        page.locator(".settings:visible > button").click()
    field.fill(str(value))
    field.press("Tab")


def set_length(page, tokens):
    set_number(page, "Length", tokens)


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
