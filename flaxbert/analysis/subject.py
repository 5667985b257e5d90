"""What analyses look at: two models, the texts, the settings; what several of them need is computed once."""

from functools import cached_property
from typing import Any

from flaxbert.analysis import scoring, texts
from flaxbert.analysis.base import ANALYSES, Settings
from flaxbert.analysis.models import Pair
from flaxbert.analysis.states import Pass
from flaxbert.tasks.base import Split


class Subject:
    """Two models, the texts and the settings.

    Attributes:
      pair: the models.
      settings: the settings.
    """

    def __init__(self, pair: Pair, settings: Settings):
        self.pair, self.settings = pair, settings

    @cached_property
    def texts(self) -> dict[str, texts.Text]:
        """`texts.OWN`, where it can be had, and `texts.OTHER`; read when first asked for."""
        return texts.read(self.pair, self.settings)

    @cached_property
    def dev(self) -> Split:
        """The first --examples of the dev split of the run; read when first asked for."""
        return scoring.dev_of(self.pair, self.settings.data_dir).head(self.settings.examples)

    @cached_property
    def both(self) -> Pass:
        """Both encoders; passes over different texts share its programs."""
        return Pass(self.pair)

    @cached_property
    def _collected(self) -> dict[str, dict[str, Any]]:
        streaming = [ANALYSES[name] for name in self.settings.what if ANALYSES[name].streams]
        found: dict[str, dict[str, Any]] = {each.name: {} for each in streaming}
        for name, text in self.texts.items():
            for each in streaming:
                found[each.name][name] = each.module.collector(self, text)
            self.both.run(text.encoded, [of[name] for of in found.values()], f"states of {text.source}")
        return found

    def collected(self, analysis: str) -> dict[str, Any]:
        """Text -> what the analysis's `collector` has taken in; one pass over each text serves all analyses."""
        return self._collected[analysis]
