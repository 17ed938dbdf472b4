"""Decoding loops: greedy, beam search, sampling, contrastive search, speculation."""

from lingxi.generation.beam_search import BeamSearch
from lingxi.generation.contrastive import ContrastiveSearch
from lingxi.generation.decoder import Decoder
from lingxi.generation.options import DecodingOptions
from lingxi.generation.speculative import SpeculativeDecoder
from lingxi.generation.stopping import stop_table


def decoder(model, options, stop_table=None):
    """The `Decoder` that `options` ask for."""
    if options.beams > 1:
        return BeamSearch(model, options, stop_table)
    if options.contrastive_alpha:
        return ContrastiveSearch(model, options, stop_table)
    return Decoder(model, options, stop_table)


__all__ = [
    "BeamSearch",
    "ContrastiveSearch",
    "Decoder",
    "DecodingOptions",
    "SpeculativeDecoder",
    "decoder",
    "stop_table",
]
