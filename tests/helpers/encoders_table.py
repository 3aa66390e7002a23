"""The table of docs/encoders.md: every model name of open_clip, and what its configuration says about its text tower.

`PYTHONPATH=. python tests/helpers/encoders_table.py` writes it anew.
"""

from __future__ import annotations

from collections import defaultdict

from project_root import ROOT

from features.encoding.configuration import model_config
from features.encoding.definition import EncoderSpec
from features.encoding.text_support import INSTEAD, text_support

PAGE = ROOT / "docs/encoders.md"
BEGIN, END = "<!-- table of text towers -->\n", "<!-- end of the table -->\n"


def table() -> str:
    """Return the table in Markdown: a row for each kind of text tower, with the names of its models."""
    import open_clip

    rows: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in open_clip.list_models():
        config = model_config(EncoderSpec(model=name))
        assert config is not None
        support = text_support(config)
        if support.problems:
            reason = "; ".join(support.problems).replace(f"; {INSTEAD}", "")
            rows[(support.kind, "", support.tokenizer or "CLIP's", f"refused: {reason}")].append(name)
        else:
            prompts = "every method" if support.shares_prefix else "every method but `tcp`"
            loss = ", sigmoid loss" if support.sigmoid else ""
            key = (f"{support.kind}{loss}", str(support.context_length), support.tokenizer or "CLIP's", prompts)
            rows[key].append(name)

    lines = ["| text tower | tokens | tokenizer | runs | models |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(key)} | {', '.join(names)} |" for key, names in rows.items()]
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the text of the page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
