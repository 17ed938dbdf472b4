"""The tokenizer whose files are packed behind the model in a file."""

import functools
import tempfile
import zipfile

from lingxi import text
from lingxi.export import metadata
from lingxi.text.bert_files import VOCABULARY
from lingxi.text.wordpiece_python import PythonWordPiece


class PackedTokenizer:
    """A graph of token ids that brings its tokenizer; a subclass runs it.

    Attributes:
        path: of the file; None if it takes no token ids.
    """

    path = None

    @functools.cached_property
    def encoder(self):
        """From texts to token ids; of WordPiece in plain Python, else `tokenizer`."""
        folder = zipfile.Path(self.path)
        if (folder / VOCABULARY).exists():
            return PythonWordPiece.from_directory(folder)
        return self.tokenizer

    @functools.cached_property
    def tokenizer(self):
        """The `lingxi.text.Tokenizer`, which needs TensorFlow; None where the file has it inside.

        Raises:
            ImportError: there is no TensorFlow.
        """
        if self.path is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            metadata.extract(self.path, folder)
            try:
                return text.from_directory(folder)
            except ImportError as error:
                raise ImportError(
                    f"{self.path} carries a tokenizer that runs in TensorFlow: pip install "
                    "tensorflow-text (only WordPiece needs none)"
                ) from error
