"""GET /models: a page of views."""

from dataclasses import replace

from shoal_operator.state.world.views import CopyState, CopyView
from shoal_operator.status.listing import listing

from .model_views import view


def test_a_page_says_what_is_loaded_and_where() -> None:
    loaded = replace(view(), copies=(CopyView("p-1", "uid-1", CopyState.LOADED, serving=True),), memory_bytes=5)
    page = listing([loaded], more=True)
    (item,) = page["items"]
    assert (item["name"], item["loaded"], item["memoryBytes"]) == (loaded.spec.name, True, 5)
    assert item["copies"] == [{"pod": "p-1", "state": "Loaded", "serving": True}]
    assert page["continue"] == item["name"]
    assert "storageUri" not in str(page)


def test_the_last_page_has_no_continue() -> None:
    assert listing([], more=False) == {"items": []}
    assert "continue" not in listing([view()], more=False)
