"""Claims, what came of them, and their table."""

from experiments.claims import NOT_MEASURED, Claim, Finding, judge, p, rules

ABOVE = Claim("B above", "It is above 0.", "it is above 0", lambda x: Finding(f"{x:+d}", x > 0, "x +3 [S]"))
KNOWN = Claim("B known", "Somebody knows.", "somebody does", lambda x: NOT_MEASURED)


def test_every_claim_is_judged_on_every_task():
    found = judge([ABOVE, KNOWN], iter([("one", 1), ("two", -2)]))
    assert [tuple(each) for each in found] == [
        ("B above", "one", "+1", "x +3 [S]", "confirmed"),
        ("B above", "two", "-2", "x +3 [S]", "not confirmed at this size"),
        ("B known", "one", "", "", "not measured"), ("B known", "two", "", "", "not measured")]


def test_the_table_of_claims_tells_the_rules():
    found = judge([ABOVE], [("one", 1)])
    text = rules([ABOVE, KNOWN], found, "written later")
    assert text[0] == "**The claims**"
    assert "| B above | one | +1 | x +3 [S] | confirmed |" in text
    assert text[-3:] == [
        "", "- **B above.** It is above 0. Confirmed where it is above 0.",
        "- **B known.** Somebody knows. Confirmed where somebody does."]
    assert text[-4] == "The rules, written later:"
    assert rules([ABOVE], [])[0] == "The rules, which stood before the measurement:"


def test_probabilities_as_text():
    assert (p(0.0004), p(0.0416)) == ("p < 0.001", "p = 0.042")
