"""docs/script.md as it stands: runs trained in a script, which loads no Lightning."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "script.md"


def test_the_script_prints_what_the_page_says_and_loads_no_lightning():
    page = PAGE.read_text(encoding="utf-8")
    scripts = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (shown,) = re.findall(r"```\n(lr .*?)```", page, re.DOTALL)
    written = re.findall(r"`(EngineGroup\(.*?\))`", page)
    assert 'EngineGroup(members, engine="loop")' in written
    scripts += written
    end = "import sys\nassert not any(name.partition('.')[0] == 'lightning' for name in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", "\n".join([*scripts, end])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number = r"\d\.\d+$"
    assert re.sub(number, "", done.stdout, flags=re.M) == re.sub(number, "", shown, flags=re.M)
    printed, expected = (re.findall(number, text, re.M) for text in (done.stdout, shown))
    assert list(map(float, printed)) == pytest.approx(list(map(float, expected)), rel=0.02)
