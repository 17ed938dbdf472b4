"""Decoding loops: greedy, beam search, sampling, contrastive search, speculation."""

from lingxi.generation.beam_search import BeamSearch
from lingxi.generation.decoder import Decoder
from lingxi.generation.options import DecodingOptions


def decoder(model, options, stop_table=None):
    """The `Decoder` that `options` ask for."""
    return (BeamSearch if options.beams > 1 else Decoder)(model, options, stop_table)


__all__ = ["BeamSearch", "Decoder", "DecodingOptions", "decoder"]
