import io

from rich.console import Console

from archtool.cli import bars


def test_lines_tell_name_count_and_rest(capsys, monkeypatch):
    monkeypatch.setattr(bars, "LINE_EVERY_S", 0.0)
    with bars.Lines().phase("calibrate", 4) as phase:
        phase.advance(1, "loss 2.5")
    err = capsys.readouterr().err
    assert "calibrate: 1 of 4, about" in err and "loss 2.5" in err and "calibrate: done in" in err


def test_lines_of_unknown_length(capsys, monkeypatch):
    monkeypatch.setattr(bars, "LINE_EVERY_S", 0.0)
    with bars.Lines().phase("search") as phase:
        phase.advance(2)
    assert "search: 2\n" in capsys.readouterr().err


def test_bars_nest_and_keep_the_note(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    shown = bars.Bars()
    with shown.phase("outer", 2) as outer, shown.phase("inner", 1) as inner:
        inner.advance(1)
        outer.advance(1, "best 0.91")
    text = screen.getvalue()
    assert "outer" in text and "  inner" in text and "1/2" in text and "best 0.91" in text


def test_quiet_shows_nothing(capsys):
    with bars.make_progress(quiet=True).phase("x", 1) as phase:
        phase.advance()
    assert capsys.readouterr().err == ""
