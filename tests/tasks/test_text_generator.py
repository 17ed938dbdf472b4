"""Training on plain text, continuing it, and measuring how probable a text is."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lingxi.generation import DecodingOptions
from lingxi.tasks import Generation, TextGenerator
from lingxi.text import ByteBpeTokenizer
from lingxi.text.byte_bpe import byte_characters
from lingxi.training import AdamW
from lingxi.zoo import Gpt, GptConfig

CONTEXT = 48
TEXT = "the river is long and the night is cold. " * 30


def new_generator(seed=3, config=(), **kwargs):
    """One whose tokens are bytes, and whose weights are always the same."""
    keras.utils.set_random_seed(seed)
    sizes = {
        "vocab_size": 257,
        "hidden_dim": 32,
        "num_layers": 2,
        "num_heads": 2,
        "max_length": CONTEXT,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
        # wider than GPT's 0.02, so that different texts have visibly different continuations
        "initializer_range": 0.2,
    }
    tokenizer = ByteBpeTokenizer([*byte_characters(), "<|endoftext|>"], merges=[])
    return TextGenerator(Gpt(GptConfig(**sizes | dict(config))), tokenizer, **kwargs)


@pytest.fixture(scope="module")
def generator():
    """Of random weights; do not change it."""
    return new_generator()


@pytest.fixture(scope="module")
def trained():
    """It knows `TEXT`; do not change it."""
    generator = new_generator(config={"initializer_range": 0.02})
    generator.compile(AdamW(1e-2, global_clipnorm=1.0))
    generator.fit([TEXT], steps_per_epoch=150, batch_size=8, seed=1, verbose=0)
    return generator


class TestTraining:
    def test_it_learns_a_text_and_continues_it(self, trained):
        assert trained.generate("the river is", max_tokens=12) == " long and th"
        assert trained.generate(["the night", "the ri"], max_tokens=4) == [" is ", "ver "]

    def test_a_text_that_it_knows_is_less_perplexing(self, trained):
        known, unknown = (trained.perplexity([text]) for text in ("the night is cold", "xq zj!"))
        assert known < 2 < 20 < unknown

    def test_evaluate_is_the_mean_over_all_tokens(self, generator):
        text = "the last block of the text is shorter"  # with its end 38 tokens: 16, 16, 6
        found = generator.evaluate([text], block_size=16, verbose=0, return_dict=True)
        ids = [256, *text.encode(), 256]
        losses = []
        for place in range(0, 38, 16):
            block = np.array([ids[place : place + 17]])
            logits = generator({"token_ids": block[:, :-1]})
            losses.extend(
                keras.ops.sparse_categorical_crossentropy(block[:, 1:], logits, from_logits=True)[0]
            )
        assert len(losses) == 38
        assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
        assert found["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
        assert 0 <= found["accuracy"] <= 1
        small = generator.evaluate([text], block_size=16, batch_size=1, verbose=0, return_dict=True)
        assert small == pytest.approx(found, rel=1e-5)

    def test_lists_files_and_data_sets_are_the_same_texts(self, generator, tmp_path):
        texts = ["the first text\n", "第二", "and a third one, which is longer"]
        paths = [tmp_path / f"{index}.txt" for index in range(3)]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text, "utf-8")
        wanted = generator.evaluate(texts, block_size=16, verbose=0)
        single = tf.data.Dataset.from_tensor_slices(texts)
        for same in (paths, tuple(texts), np.array(texts), single, single.batch(2)):
            found = generator.evaluate(same, block_size=16, verbose=0)
            assert found == pytest.approx(wanted, rel=1e-5)
        assert generator.evaluate(str(paths[0]), verbose=0) == pytest.approx(
            generator.evaluate(texts[:1], verbose=0), rel=1e-5
        )

    @pytest.mark.parametrize("kind", ["list", "data set"])
    def test_fit_keeps_a_history_of_all_metrics(self, kind):
        generator = new_generator()
        x = [TEXT] if kind == "list" else tf.data.Dataset.from_tensor_slices([TEXT] * 2)
        history = generator.fit(
            x, validation_data=[TEXT[:100]], epochs=2, block_size=32, seed=0, verbose=0
        ).history
        names = {"loss", "perplexity", "accuracy"}
        assert set(history) == names | {f"val_{name}" for name in names}
        assert history["val_loss"][1] < history["val_loss"][0] < 8
        np.testing.assert_allclose(
            history["val_perplexity"], np.exp(history["val_loss"]), rtol=1e-4
        )

    def test_xla_learns_the_same(self):
        losses = []
        for jit_compile in (None, True):
            generator = new_generator()
            options = {"epochs": 2, "block_size": 16, "batch_size": 4, "seed": 0, "verbose": 0}
            history = generator.fit(
                [TEXT[:300]], validation_data=[TEXT[:70]], jit_compile=jit_compile, **options
            ).history
            assert generator.jit_compile == bool(jit_compile)
            losses.append(history["loss"] + history["val_loss"])
        np.testing.assert_allclose(*losses, rtol=1e-4)
        with pytest.raises(ValueError, match="pass jit_compile to `compile`"):
            generator.compile()
            generator.fit([TEXT[:300]], jit_compile=True, verbose=0)

    def test_steps_per_epoch_is_the_number_of_steps(self, trained):
        assert int(trained.optimizer.iterations) == 150

    def test_one_graph_serves_a_whole_training(self):
        generator = new_generator()
        generator.fit([TEXT[:700]], epochs=2, batch_size=4, block_size=16, verbose=0)
        (step,) = [
            value
            for cell in generator.train_function.__closure__
            if hasattr(value := cell.cell_contents, "experimental_get_tracing_count")
        ]
        assert step.experimental_get_tracing_count() == 1

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            ([], ValueError, "got no texts"),
            (["good", None], TypeError, r"texts\[1\] is None"),
            ([b"\xff\xfe"], TypeError, r"texts\[0\] is not valid Unicode"),
            ("a text by itself", FileNotFoundError, "goes in a list"),
        ],
    )
    def test_bad_texts_are_clear_errors(self, generator, x, error, message):
        with pytest.raises(error, match=message):
            generator.evaluate(x, verbose=0)

    def test_a_file_that_is_not_utf8_is_named(self, generator, tmp_path):
        path = tmp_path / "latin.txt"
        path.write_bytes("naïve".encode("latin-1"))
        with pytest.raises(ValueError, match=r"latin.txt is not UTF-8"):
            generator.evaluate(path, verbose=0)

    def test_predict_gives_the_logits_of_tokens(self, generator):
        inputs = {"token_ids": np.array([list(b"the"), list(b"cat")])}
        found = generator.predict(inputs, verbose=0)
        np.testing.assert_allclose(found, generator(inputs), atol=1e-5)
        with pytest.raises(TypeError, match="use generate or score"):
            generator.predict(["the"])

    def test_a_block_longer_than_the_context_is_an_error(self, generator):
        with pytest.raises(ValueError, match="from 1 to 48"):
            generator.fit([TEXT], block_size=CONTEXT + 1, verbose=0)


class TestGenerate:
    def test_one_prompt_gives_one_text_and_a_list_a_list(self, generator):
        alone = generator.generate("the river", max_tokens=6)
        assert isinstance(alone, str)
        assert generator.generate(["the river"], max_tokens=6) == [alone]
        assert generator.generate([], max_tokens=6) == []

    def test_it_takes_the_most_probable_token_each_time(self, generator):
        ids = list(b"the")
        for _ in range(5):
            logits = generator({"token_ids": np.array([ids])})
            ids.append(int(np.argmax(logits[0, -1])))
        made = generator.generate("the", max_tokens=5, details=True)
        assert isinstance(made, Generation)
        assert list(made.token_ids) == ids[3:]
        assert made.text == generator.tokenizer.decode(ids[3:])
        assert made.score == pytest.approx(sum(made.log_probs), rel=1e-5)

    def test_prompts_of_all_lengths_do_not_change_each_other(self, generator):
        prompts = ["a", "the long river", "", "你好", "night"]
        alone = [generator.generate(prompt, max_tokens=8) for prompt in prompts]
        assert generator.generate(prompts, max_tokens=8) == alone
        assert generator.generate(prompts, max_tokens=8, batch_size=2) == alone

    def test_a_seed_repeats_what_was_drawn(self, generator):
        options = {"max_tokens": 12, "temperature": 1.0}
        first = generator.generate("the", seed=1, **options)
        assert first == generator.generate("the", seed=1, **options)
        assert first != generator.generate("the", seed=2, **options)

    def test_several_results_are_a_list_for_each_prompt(self, generator):
        options = {"max_tokens": 6, "num_results": 3}
        drawn = generator.generate(["a", "b"], temperature=1.0, seed=0, **options)
        assert [len(set(results)) for results in drawn] == [3, 3]
        beams = generator.generate("a", beams=4, details=True, **options)
        assert len(beams) == 3
        assert beams[0].score >= beams[1].score >= beams[2].score

    @pytest.mark.parametrize("kind", ["prompt", "smaller"])
    def test_a_draft_changes_no_text(self, trained, kind):
        draft = kind
        if kind == "smaller":
            draft = new_generator(config={"num_layers": 1, "hidden_dim": 16})
        prompts = ["the river is", "", "night " * 7]  # the last leaves no room for more guesses
        options = {"max_tokens": 6, "stop": "g a"}
        made = trained.generate(prompts, details=True, draft=draft, **options)
        for found, wanted in zip(
            made, trained.generate(prompts, details=True, **options), strict=True
        ):
            assert (found.text, found.token_ids) == (wanted.text, wanted.token_ids)
            np.testing.assert_allclose(found.log_probs, wanted.log_probs, atol=1e-4)

    def test_what_is_no_draft_is_an_error(self, generator):
        small = new_generator(max_length=CONTEXT - 1)
        with pytest.raises(ValueError, match="the draft reads 47 tokens, this generator 48"):
            generator.generate("the", draft=small)
        with pytest.raises(ValueError, match='must be a TextGenerator or "prompt", got 3'):
            generator.generate("the", draft=3)
        with pytest.raises(ValueError, match="greedy decoding without penalties"):
            generator.generate("the", draft="prompt", temperature=1.0, max_tokens=4)
        other = new_generator()
        other.tokenizer = ByteBpeTokenizer(["<|endoftext|>", *byte_characters()], merges=[])
        with pytest.raises(ValueError, match="another vocabulary"):
            generator.generate("the", draft=other)

    def test_a_text_ends_before_a_stop_string(self, trained):
        free = trained.generate("the river", max_tokens=20)
        assert free.startswith(" is long and the")
        for stop in ("and", ["zzz", "ong and", "and"]):
            assert trained.generate("the river", max_tokens=20, stop=stop) == (
                " is long " if stop == "and" else " is l"
            )
        usually = new_generator(stop=["q"])
        assert "q" not in usually.generate("the", max_tokens=20, temperature=1.0, seed=0)

    def test_no_tokens_are_no_text(self, generator):
        assert generator.generate(["the", ""], max_tokens=0) == ["", ""]
        assert list(generator.stream("the", max_tokens=0)) == []

    def test_a_long_prompt_is_cut_on_the_left_with_a_warning(self, generator):
        prompt = "x" * 60 + TEXT[:40]
        with pytest.warns(UserWarning, match=r"prompts\[1\] has 100 tokens.*room for 40"):
            _, found = generator.generate(["a", prompt], max_tokens=8)
        assert found == generator.generate(TEXT[:40], max_tokens=8)
        with pytest.raises(ValueError, match=r"prompts\[0\] has 100 tokens"):
            generator.generate(prompt, max_tokens=8, truncate=False)

    def test_no_room_for_a_prompt_is_an_error(self, generator):
        assert len(generator.generate("a", max_tokens=47, details=True).token_ids) == 47
        for verb in (generator.generate, generator.stream):
            with pytest.raises(ValueError, match="max_tokens=48 leaves no room .* 47 at most"):
                verb("a", max_tokens=CONTEXT)

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (None, "is None"),
            (7, "is 7 of type int"),
            (b"\xff", "not valid Unicode"),
            ("\ud800", "not valid Unicode"),
        ],
    )
    def test_a_bad_prompt_is_named(self, generator, row, message):
        with pytest.raises(TypeError, match=rf"prompts\[1\] is .*{message.removeprefix('is ')}"):
            generator.generate(["good", row], max_tokens=2)

    def test_an_unknown_option_is_an_error(self, generator):
        with pytest.raises(ValueError, match="unknown options.*temprature"):
            generator.generate("a", temprature=1.0)

    def test_its_own_options_count_where_the_caller_says_nothing(self):
        options = DecodingOptions(max_tokens=5, temperature=1.0, num_results=2)
        generator = new_generator(decoding=options)
        made = generator.generate("the", seed=0, details=True)
        assert [len(result.token_ids) for result in made] == [5, 5]


class TestStream:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"temperature": 1.0, "seed": 5},
            {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "seed": 5},
            {"repetition_penalty": 1.3},
            {"contrastive_alpha": 0.5, "top_k": 3},
        ],
        ids=str,
    )
    def test_the_pieces_are_what_generate_gives(self, generator, options):
        wanted = generator.generate("the 河", max_tokens=20, **options)
        assert "".join(generator.stream("the 河", max_tokens=20, **options)) == wanted

    def test_text_comes_piece_by_piece(self, trained):
        pieces = trained.stream("the river is", max_tokens=6)
        assert [next(pieces), next(pieces)] == [" ", "l"]
        assert "".join(pieces) == "ong "

    def test_characters_come_whole(self):
        generator = new_generator()
        generator.compile(AdamW(1e-2))
        generator.fit(["你好吗。" * 40], steps_per_epoch=150, batch_size=8, seed=0, verbose=0)
        pieces = list(generator.stream("你好", max_tokens=15))
        assert pieces == list("吗。你好吗")

    def test_no_part_of_a_stop_string_is_shown(self, trained):
        pieces = list(trained.stream("the river", max_tokens=30, stop=["and thx", " and the"]))
        assert "".join(pieces) == " is long"
        assert not any("a" in piece for piece in pieces)

    def test_what_only_looked_like_a_stop_string_is_shown(self, trained):
        wanted = trained.generate("the river", max_tokens=20)
        assert "".join(trained.stream("the river", max_tokens=20, stop="long and thx")) == wanted
        cut = "".join(trained.stream("the river", max_tokens=8, stop="long and"))
        assert cut == wanted[:8] == " is long"

    @pytest.mark.parametrize("options", [{"beams": 2}, {"num_results": 2, "temperature": 1.0}])
    def test_it_has_one_result(self, generator, options):
        with pytest.raises(ValueError, match="use generate"):
            generator.stream("a", max_tokens=4, **options)


class TestScore:
    def test_every_token_has_its_log_probability(self, generator):
        texts = ["the river", "", "你"]
        for text, score in zip(texts, generator.score(texts), strict=True):
            ids = [256, *text.encode()]
            logits = generator({"token_ids": np.array([ids])})[0]
            wanted = keras.ops.log_softmax(logits)
            assert list(score.token_ids) == ids[1:]
            assert score.tokens == tuple(generator.tokenizer.vocabulary[i] for i in ids[1:])
            wanted = [float(wanted[place, token]) for place, token in enumerate(ids[1:])]
            np.testing.assert_allclose(score.log_probs, wanted, atol=1e-5)
            assert score.total == pytest.approx(sum(wanted), abs=1e-4)

    def test_what_was_generated_scores_as_it_was_generated(self, trained):
        made = trained.generate("the river", max_tokens=12, details=True)
        (score,) = trained.score([made.text], ["the river"])
        np.testing.assert_allclose(score.log_probs, made.log_probs, atol=1e-5)

    def test_long_texts_are_read_in_windows(self, generator):
        text = TEXT[:130]
        (score,) = generator.score([text])
        ids = [256, *text.encode()]
        assert len(score.log_probs) == 130
        for place in (0, 47, 48, 71, 72, 100, 129):
            # All windows but the first are of 48 tokens, of which the last 24 count.
            end = min(place + 1, 48) if place < 48 else min(48 + 24 * ((place - 24) // 24), 130)
            window = np.array([ids[max(0, end - 48) : place + 1]])
            wanted = keras.ops.log_softmax(generator({"token_ids": window})[0, -1])
            assert score.log_probs[place] == pytest.approx(float(wanted[ids[place + 1]]), abs=1e-5)
        (ending,) = generator.score([text[-5:]], [text[:-5]])
        np.testing.assert_allclose(ending.log_probs, score.log_probs[-5:], atol=1e-5)

    def test_perplexity_is_over_all_tokens_of_all_texts(self, generator):
        texts = ["the river", "a night"]
        log_probs = [p for score in generator.score(texts) for p in score.log_probs]
        assert generator.perplexity(texts) == pytest.approx(np.exp(-np.mean(log_probs)))
        with pytest.raises(ValueError, match="no tokens"):
            generator.perplexity([""])

    def test_the_likelier_ending_is_chosen(self, trained):
        choices = trained.choose(["the river is", "the night is"], [" long", " cold"])
        assert [choice.label for choice in choices] == [" long", " cold"]
        assert choices[0].score == choices[0].means[" long"] > choices[0].means[" cold"]
        (wanted,) = trained.score([" long"], ["the river is"])
        assert choices[0].totals[" long"] == pytest.approx(wanted.total, abs=1e-5)

    def test_sums_prefer_short_endings_and_means_do_not(self, trained):
        choices = ["zq", " is long and the night is cold"]
        by_mean = trained.choose("the river", choices)
        by_sum = trained.choose("the river is long and the night is cold. the", choices, False)
        assert by_mean.label == choices[1]
        assert by_sum.score == by_sum.totals[by_sum.label] == max(by_sum.totals.values())

    def test_choices_may_differ_between_prompts(self, trained):
        first, second = trained.choose(["the river is", "the"], [[" long", " zzz"], ["x", " "]])
        assert (first.label, second.label) == (" long", " ")
        with pytest.raises(ValueError, match="got 1 prompts, but 2 lists"):
            trained.choose(["a"], [["x"], ["y"]])
        with pytest.raises(ValueError, match="no choice may be empty"):
            trained.choose(["a"], ["x", ""])


class TestSaving:
    def test_a_preset_generates_the_same(self, tmp_path):
        generator = new_generator(
            decoding={"max_tokens": 7, "banned": [5, [6, 7]]}, stop=["\n\n"], max_length=40
        )
        generator.save_preset(tmp_path / "preset")
        loaded = TextGenerator.from_preset(tmp_path / "preset")
        assert loaded.generate(["the", ""]) == generator.generate(["the", ""])
        for name in ("decoding", "stop", "max_length"):
            assert getattr(loaded, name) == getattr(generator, name)
        assert TextGenerator.from_preset(tmp_path / "preset", max_length=30).max_length == 30

    def test_a_keras_file_has_tokenizer_options_and_optimizer(self, tmp_path):
        generator = new_generator(decoding={"max_tokens": 7}, stop=["\n"])
        generator.compile(AdamW(1e-3))
        generator.fit([TEXT[:200]], block_size=16, verbose=0)
        generator.save(tmp_path / "generator.keras")
        loaded = keras.saving.load_model(tmp_path / "generator.keras")
        assert loaded.generate(["the", ""]) == generator.generate(["the", ""])
        assert loaded.evaluate([TEXT[:50]], verbose=0) == generator.evaluate([TEXT[:50]], verbose=0)
        assert (loaded.decoding, loaded.stop) == (generator.decoding, ("\n",))
        assert int(loaded.optimizer.iterations) == int(generator.optimizer.iterations)

    def test_a_size_needs_a_vocabulary(self, generator, monkeypatch):
        monkeypatch.setitem(Gpt.presets, "gpt2_small", generator.backbone.config)
        with pytest.raises(ValueError, match="vocabulary"):
            TextGenerator.from_preset("gpt2_small")
        fresh = TextGenerator.from_preset("gpt2_small", vocabulary=generator.tokenizer)
        assert len(fresh.generate("a", max_tokens=3, details=True).token_ids) == 3

    def test_what_artifacts_run_is_what_generate_gives(self, trained):
        prompts = ["the river", "", "x" * 60 + "the night"]
        served = trained.serving_function(tf.constant(prompts))
        with pytest.warns(UserWarning):
            made = trained.generate(prompts, details=True)
        assert [text.decode() for text in served["text"][:, 0].numpy()] == [m.text for m in made]
        np.testing.assert_allclose(served["score"][:, 0], [m.score for m in made], rtol=1e-4)
