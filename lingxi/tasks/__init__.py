"""What a user trains and calls."""

from lingxi.answers.classification import Classification
from lingxi.answers.generation import Generation
from lingxi.answers.retrieval import Hit
from lingxi.tasks.back_translation import back_translate
from lingxi.tasks.feature_matcher import FeatureMatcher, Matches
from lingxi.tasks.loading import load
from lingxi.tasks.masked_language_model import Filling, MaskedLanguageModel
from lingxi.tasks.multi_task import MultiTask
from lingxi.tasks.prompting import Dialogue, few_shot
from lingxi.tasks.question_answerer import Answer, QuestionAnswerer
from lingxi.tasks.span_language_model import FilledText, SpanLanguageModel
from lingxi.tasks.summarizer import Summarizer
from lingxi.tasks.task import Task
from lingxi.tasks.text_classifier import TextClassifier
from lingxi.tasks.text_embedder import TextEmbedder
from lingxi.tasks.text_generator import Choice, Score, TextGenerator
from lingxi.tasks.text_regressor import TextRegressor
from lingxi.tasks.token_classifier import Entity, TokenClassifier
from lingxi.tasks.translator import Translator

__all__ = [
    "Answer",
    "Choice",
    "Classification",
    "Dialogue",
    "Entity",
    "FeatureMatcher",
    "FilledText",
    "Filling",
    "Generation",
    "Hit",
    "MaskedLanguageModel",
    "Matches",
    "MultiTask",
    "QuestionAnswerer",
    "Score",
    "SpanLanguageModel",
    "Summarizer",
    "Task",
    "TextClassifier",
    "TextEmbedder",
    "TextGenerator",
    "TextRegressor",
    "TokenClassifier",
    "Translator",
    "back_translate",
    "few_shot",
    "load",
]
