"""One grammar, in every form that it takes: what one reader accepts, all accept."""

import re
from pathlib import Path

import pytest
import shoal_mlserver
from hypothesis import given
from hypothesis import strategies as st
from shoal_api.crd import definitions
from shoal_api.grammar import MODEL_NAME, NAMESPACE, SERVICE_NAME, Grammar, plugin_module

GRAMMARS = [MODEL_NAME, SERVICE_NAME, NAMESPACE]
WIDER = Grammar("file", "A-Za-z0-9", "A-Za-z0-9", "._-", 8)
"""As names under a prefix may be: more characters, and nothing else to change."""

names = st.one_of(
    st.from_regex(r"\A[a-z0-9-]{0,12}\Z"),
    st.text(st.sampled_from("aZ09-_./\n\x00 %:é"), max_size=12),
    st.sampled_from(["a" * 53, "a" * 54, "a" * 63, "a" * 64, "a" * 253, "a" * 254, "", "-", "a-", "-a", "a\n"]),
)


def lua_pattern(grammar: Grammar, name: str) -> bool:
    """The rendered Lua, read as Python: the same conditions, with Lua's escape for a literal character."""
    found = re.findall(r'name:find\("(.*?)"\)', grammar.lua)
    assert len(found) == 2
    whole, last = (re.compile(each.replace("%", "\\").replace("$", r"\Z")) for each in found)
    return (
        f"#name <= {grammar.longest} " in grammar.lua
        and len(name) <= grammar.longest
        and bool(whole.search(name) and last.search(name))
    )


@given(name=names, grammar=st.sampled_from([*GRAMMARS, WIDER]))
def test_every_form_says_the_same(name: str, grammar: Grammar) -> None:
    by_hand = (
        0 < len(name) <= grammar.longest
        and re.match(f"[{grammar.first}]", name) is not None
        and re.match(f"[{grammar.ends}]", name[-1]) is not None
        and all(re.match(f"[{grammar.ends}]", each) or each in grammar.inside for each in name)
    )
    assert grammar.matches(name) == by_hand
    assert (
        re.search(grammar.anchored.replace("$", r"\Z"), name) is not None and len(name) <= grammar.longest
    ) == by_hand
    assert lua_pattern(grammar, name) == by_hand


def test_the_plug_in_carries_the_same_grammar() -> None:
    file = Path(next(iter(shoal_mlserver.__path__))) / "grammar.py"
    assert file.read_text() == plugin_module(), "run `make crds`"


@pytest.mark.parametrize(("kind", "grammar"), [("TrainedModel", MODEL_NAME), ("InferenceService", SERVICE_NAME)])
def test_the_definitions_hold_the_grammar(kind: str, grammar: Grammar) -> None:
    (definition,) = [each for each in definitions() if each["spec"]["names"]["kind"] == kind]
    (rule,) = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"]
    expected = f"self.metadata.name.matches('{grammar.anchored}') && size(self.metadata.name) <= {grammar.longest}"
    assert rule["rule"] == expected


def test_what_to_write_is_said() -> None:
    assert MODEL_NAME.in_words() == "lower-case letters and digits, '-' between them, at most 253 characters"
    assert "a letter first, at most 53" in SERVICE_NAME.in_words()
