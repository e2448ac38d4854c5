"""The whole page: a header, the banner, a tab a task."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import gradio as gr

from gpt_tasks.backbone.backbone import BackboneInBackground
from gpt_tasks.errors import UserError
from gpt_tasks.tasks import dialogue, open_ended, topic_writing
from gpt_tasks.tasks.classifiers import Classifiers, available
from gpt_tasks.tasks.extraction.extraction_task import SCHEMAS, available_schemas
from gpt_tasks.tasks.extraction.extractors import Extractors
from gpt_tasks.ui import (
    analyse_tab,
    classify_tab,
    compare_tab,
    compress_tab,
    dialogue_tab,
    extract_tab,
    open_ended_tab,
    status,
    teach_tab,
    topic_writing_tab,
)
from gpt_tasks.ui.controls import discard_runs
from gpt_tasks.ui.texts import browser_texts, label

_ASSETS = Path(__file__).resolve().parents[2] / "assets"
_FONTS = [
    "system-ui",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "Noto Sans CJK SC",
    "PingFang SC",
    "Microsoft YaHei",
    "sans-serif",
]
_MONOSPACE = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
_DELETE_FILES = (3600, 6 * 3600)  # every hour, those that visitors could download for six hours
_LARGEST_UPLOAD = "50mb"  # 50,000 long texts
_QUEUE_LENGTH = 64  # visitors waiting; one more is told to come back


def build_page(background: BackboneInBackground, off: Mapping[str, UserError] = MappingProxyType({})) -> gr.Blocks:
    """
    Args:
        off: the tasks that the model isn't made for, and why: their tabs say so
    """
    with gr.Blocks(title="GPT tasks", analytics_enabled=False, fill_width=True, delete_cache=_DELETE_FILES) as page:
        with gr.Column(elem_id="header"):
            gr.Markdown(label("headline"), elem_id="headline")
            gr.Markdown(label("intro"), elem_id="intro")
        status.build(background)
        with gr.Tabs():
            with gr.Tab(label("tab_open_ended"), id=open_ended.NAME):
                open_ended_tab.build(background)
            with gr.Tab(label("tab_topic_writing"), id=topic_writing.NAME) as topic_tab:
                topic_writing_tab.build(background, topic_tab)
            with gr.Tab(label("tab_dialogue"), id=dialogue.NAME):
                if dialogue.NAME in off:
                    gr.Markdown(label(off[dialogue.NAME].key), elem_id="dialogue-off", elem_classes="notice-line")
                else:
                    dialogue_tab.build(background)
            classifiers, extractors = Classifiers(), Extractors()
            if available():
                with gr.Tab(label("tab_classify"), id=classify_tab.NAME) as classify:
                    classify_tab.build(background, classifiers, classify)
            if available_schemas():
                with gr.Tab(label("tab_extract"), id=extract_tab.NAME) as extract:
                    extract_tab.build(background, extractors, extract)
            if len(available_schemas()) == len(SCHEMAS):
                with gr.Tab(label("tab_analyse"), id=analyse_tab.NAME) as analyse:
                    analyse_tab.build(background, classifiers, extractors, analyse)
            with gr.Tab(label("tab_teach"), id=teach_tab.NAME):
                teach_tab.build(background)
            with gr.Tab(label("tab_compress"), id=compress_tab.NAME) as compress:
                compress_tab.build(background, compress)
            with gr.Tab(label("tab_compare"), id=compare_tab.NAME) as compare:
                compare_tab.build(background, compare)

        def forget(request: gr.Request) -> None:
            """The visitor has closed the page: what runs for them ends, and their caches go."""
            discard_runs(request.session_hash)
            if background.backbone is not None:
                for task in (open_ended, topic_writing, dialogue):
                    background.backbone.conversations.forget((request.session_hash, task.NAME))

        page.unload(forget)
    return page.queue(max_size=_QUEUE_LENGTH)


def launch_options() -> dict:
    """What the page looks like, for `launch`. Everything it loads comes from this server."""
    theme = gr.themes.Base(
        primary_hue="teal", neutral_hue="slate", font=_FONTS, font_mono=_MONOSPACE, radius_size="md"
    ).set(
        # Dark enough to be read: at least 4.5 to 1 against what is behind them.
        body_text_color_subdued="*neutral_500",
        block_label_text_color="*neutral_600",
        block_info_text_color="*neutral_500",
        input_placeholder_color="*neutral_500",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
    )
    return {
        "theme": theme,
        "css_paths": _ASSETS / "style.css",
        "i18n": browser_texts(),
        "ssr_mode": False,
        "footer_links": [],
        "favicon_path": _ASSETS / "favicon.svg",
        "show_error": False,
        "max_file_size": _LARGEST_UPLOAD,
    }
