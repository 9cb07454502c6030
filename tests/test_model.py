"""A model of random weights: every direction, and the laws of sampling."""

from __future__ import annotations

import dataclasses
import warnings

import jax
import numpy as np
import pytest
from tiny_models import STREETS, random_model

import gcdiff
from gcdiff import config as configs
from gcdiff import paths
from gcdiff.api.runner import chunk_for
from gcdiff.guidance import Guidance
from gcdiff.levels import LevelShares
from gcdiff.likelihood import Stopped
from gcdiff.text.pretrained import PretrainedCaptions
from gcdiff.types import VOID, Pair


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = tmp_path_factory.mktemp("configs") / "tiny.py"
    file.write_text(STREETS)
    return random_model(configs.load_file(str(file)))


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


LAYOUTS = np.random.default_rng(1).integers(0, 10, (14, 16, 32)).astype(np.int32)
IMAGES = np.random.default_rng(2).integers(0, 256, (14, 16, 32, 3)).astype(np.uint8)
TEXT = "a foggy street with one red car"


def test_an_example_alone_is_that_example_among_thirteen_others(model):
    many = model.sample(TEXT, num=14, guidance=2.0, seed=3)
    alone = model.sample(TEXT, num=1, guidance=2.0, seed=3)
    np.testing.assert_array_equal(many.image[:1], alone.image)
    np.testing.assert_array_equal(many.layout[:1], alone.layout)
    assert many.image.shape == (14, 16, 32, 3) and many.image.dtype == np.uint8
    assert many.layout.shape == (14, 16, 32) and many.layout.dtype == np.int32
    assert len(np.unique(many.image, axis=0)) == 14
    whole, one = model.segment(IMAGES), model.segment(IMAGES[:1])
    np.testing.assert_array_equal(whole[:1], one)


def test_chunks_of_4_8_and_16_agree_bit_for_bit(model):
    """Also in probabilities, whose last bits would tell; which chunk a question takes depends on its size."""

    def answers(chunk):
        m = model.sampling(chunk=chunk)
        return *m.sample(TEXT, num=14, guidance=2.0, seed=3), m.segment(IMAGES, probabilities=True)

    assert [chunk_for(num, 16, None) for num in (1, 4, 5, 8, 9, 16, 40)] == [4, 4, 8, 8, 16, 16, 16]
    assert [chunk_for(5, largest, None) for largest in (1, 4, 6)] == [1, 4, 6]
    fours = answers(4)
    for chunk in (8, 16):
        jax.tree.map(np.testing.assert_array_equal, answers(chunk), fours)


def test_a_model_made_of_a_model_keeps_every_other_field(model):
    """Its encoder and its conditions, and of its parts all but those that config.sample sets."""
    captions = PretrainedCaptions("an/encoder", None, 8, 32, elsewhere="another/encoder")
    text = dataclasses.replace(model.built.conditions.text, captions=captions)
    conditions = dataclasses.replace(model.built.conditions, text=text)
    whole = dataclasses.replace(
        model, built=model.built._replace(conditions=conditions), conditions={"brightness": 0.5}
    )
    for other in (whole.sampling(steps=5), whole.sampling(chunk=4, layout_step="psi").given(), whole.given()):
        assert other.encoder == "another/encoder" and other.conditions == {"brightness": 0.5}
        assert other.specs is whole.specs and other.params is whole.params
        assert other.built.conditions.text is text
        for name in set(whole.built._fields) - {"sampler", "settings", "conditions", "defaults"}:
            assert getattr(other.built, name) is getattr(whole.built, name), name
        for name in ("process", "apply_fn", "clip", "mesh"):
            assert getattr(other.built.sampler, name) is getattr(whole.built.sampler, name), name
        for name, section in whole.config.items():
            assert name == "sample" or other.config[name] == section, name


def test_seeds_texts_and_scales_matter(model):
    base = model.sample(TEXT, seed=3).image
    assert np.any(base != model.sample(TEXT, seed=4).image)
    assert np.any(base != model.sample("a nighttime street", seed=3).image)
    assert np.any(base != model.sample(None, seed=3).image)
    assert np.any(base != model.sample(TEXT, guidance=4.0, seed=3).image)


def test_an_unused_branch_equals_no_guidance(model):
    guided = model.sampling(guidance=(1.0, 3.0), image_guidance=2.0)
    a, b = guided.sample(TEXT, guidance=gcdiff.Guidance(layout=1.0, image=1.0)), model.sample(TEXT)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert np.any(guided.sample(TEXT).layout != b.layout)


def test_changing_steps_seeds_scales_and_masks_compiles_nothing(model):
    from gcdiff.samplers import repaint
    from gcdiff.samplers.sample import Sampler

    programs = (Sampler.piece, Sampler.begin, Sampler.probabilities, repaint._piece)
    known = Pair(LAYOUTS[:2] > 3, None)
    model.sample(TEXT, num=5, guidance=2.0)
    model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, guidance=2.0)
    model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, resamples=2)
    model.segment(IMAGES[:2])
    model.synthesize(LAYOUTS[:2])
    before = [program._cache_size() for program in programs]
    model.sample("a nighttime street", num=2, steps=13, guidance=(3.0, 1.5), seed=9)
    model.sample(TEXT, guidance=gcdiff.Guidance(text=[2, 3], interval=[0.1, 1]))
    model.sampling(eta=0.5).sample(TEXT, guidance=2.0)
    model.sample(TEXT, start=Pair(IMAGES[:2], LAYOUTS[:2]), strength=0.3, guidance=2.0)
    model.outpaint(Pair(IMAGES[:3], None), Pair(LAYOUTS[:3] > 5, None), TEXT, steps=2, guidance=1.7)
    model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, steps=4, resamples=5)
    model.segment(IMAGES[:3], steps=5, seed=3)
    model.synthesize(LAYOUTS[:2], confidence=0.4)
    model.synthesize(LAYOUTS[:2], confidence=0.4, evidence=True)
    assert [program._cache_size() for program in programs] == before


def test_paths_answer_with_what_was_asked(model):
    assert model.sample(TEXT, path="image_only").layout is None
    assert model.sample(TEXT, path="layout_only").image is None
    assert model.sample(TEXT, path="layout_first").layout is not None
    assert model.sample(TEXT, path="image_first").layout is not None
    with pytest.raises(ValueError, match="path is 'sideways'"):
        model.sample(TEXT, path="sideways")


def test_steps_are_taken_at_spaced_levels(model):
    even, spaced = model.sampling(steps=4, spacing=1.0), model.sampling(steps=4, spacing=2.0)
    np.testing.assert_array_equal(spaced.built.defaults.walked(paths.joint(4)), paths.joint(4) ** 2)
    np.testing.assert_array_equal(even.sample(TEXT).image, model.sample(TEXT, steps=4).image)
    assert (spaced.sample(TEXT).image != even.sample(TEXT).image).any()
    with pytest.raises(ValueError, match="config.sample.spacing is 0.0, expected a number above 0"):
        model.sampling(spacing=0.0)


def test_segment_takes_any_size_and_gives_probabilities(model):
    large = np.stack([picture(3, 40, 70), picture(4, 40, 70)])
    assert model.segment(large).shape == (2, 40, 70)
    for images in (IMAGES[:2], large):
        p = model.segment(images, 1, True)
        assert p.dtype == np.float32 and p.shape == (*images.shape[:3], 10)
        np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)
        np.testing.assert_array_equal(p.argmax(-1), model.segment(images))
    assert model.segment(IMAGES[:2], steps=3).shape == (2, 16, 32)


def test_images_of_several_sizes_are_segmented_as_if_alone(model):
    images = [picture(i, 9 + 7 * i, 20 + 5 * i) for i in range(6)]
    layouts = model.segment(images, seed=5)
    assert [y.shape for y in layouts] == [x.shape[:2] for x in images]
    for i in (0, 3, 5):
        np.testing.assert_array_equal(model.segment(images[i : i + 1], seed=5, first_id=i)[0], layouts[i])
    whole = model.segment(IMAGES[:6], steps=3)
    np.testing.assert_array_equal(model.segment(IMAGES[2:6], steps=3, first_id=2), whole[2:])
    assert np.any(model.segment(IMAGES[2:6], steps=3) != whole[2:])


def test_progress_counts_the_steps_of_all_chunks(model):
    heard = []
    model.segment(IMAGES[:5], progress=heard.append)
    assert [(p.done, p.total, p.first) for p in heard] == [(0, 2, 0), (1, 2, 0), (2, 2, 4)]
    for answer, total in (
        (lambda: model.segment(IMAGES[:5], steps=12, progress=heard.append), 24),
        (lambda: model.sample(num=5, progress=heard.append), 6),
        (lambda: model.sample(start=Pair(IMAGES[:5], LAYOUTS[:5]), progress=heard.append), 6),
        (lambda: model.sample(num=5, size=(16, 48), progress=heard.append), 12),
        (lambda: model.synthesize(LAYOUTS[:5], progress=heard.append), 6),
        (lambda: model.segment(IMAGES[:3], samples=2, progress=heard.append), 6),
        (lambda: model.segment([picture(0, 16, 80), picture(1, 20, 32)], windows=True, progress=heard.append), 2),
    ):
        heard.clear()
        answer()
        assert heard[0].done == 0 and heard[-1].done == heard[-1].total == total, [p.done for p in heard]
        assert {p.total for p in heard} == {total} and sorted({p.done for p in heard}) == [p.done for p in heard]


def every_answer(model, **watched):
    """Each direction, by name."""
    known = np.zeros((5, 16, 32), bool)
    known[:, :, :10] = True
    pair = Pair(IMAGES[:5], LAYOUTS[:5])
    return {
        "sample": lambda: model.sample(TEXT, num=5, steps=13, **watched),
        "edit": lambda: model.sample(TEXT, start=pair, steps=13, **watched),
        "segment": lambda: model.segment(IMAGES[:5], steps=13, **watched),
        "synthesize": lambda: model.synthesize(LAYOUTS[:5], TEXT, steps=13, **watched),
        "outpaint": lambda: model.outpaint(pair, Pair(known, known), TEXT, steps=13, **watched),
        "repaint": lambda: model.outpaint(pair, Pair(known, known), TEXT, steps=13, resamples=2, **watched),
        "wide": lambda: model.sample(TEXT, num=2, size=(16, 48), steps=5, **watched),
    }


def test_watching_and_previews_change_no_bit(model):
    previews = []

    def look(progress):
        if progress.done:
            previews.append(progress.preview())
        return None

    plain, watched = every_answer(model), every_answer(model, progress=look)
    for name in plain:
        previews.clear()
        jax.tree.map(np.testing.assert_array_equal, plain[name](), watched[name]())
        assert previews and all(p.image.dtype == np.uint8 and p.layout.dtype == np.int32 for p in previews), name
        if name == "outpaint":
            np.testing.assert_array_equal(previews[0].image[:, :, :10], IMAGES[:4, :, :10])
            np.testing.assert_array_equal(previews[0].layout[:, :, :10], LAYOUTS[:4, :, :10])


def test_an_answer_stops_at_the_next_piece_with_what_is_there(model):
    plain = {name: answer() for name, answer in every_answer(model).items()}
    for stop in (1, 14):  # in the first round of four and in the second, of one
        seen = []

        def hold(progress, stop=stop, seen=seen):
            seen.append((progress.done, progress.preview() if progress.done >= stop else None))
            return progress.done < stop

        for name, answer in every_answer(model, progress=hold).items():
            if name == "wide" and stop > 10:  # that is all of its steps
                continue
            seen.clear()
            out, whole = answer(), plain[name]
            assert seen[-1][0] == stop and len([done for done, _ in seen if done >= stop]) == 1, name
            last = seen[-1][1]
            if name == "wide":
                assert (out.image[:, :, 32:] == 0).all() and (out.layout[:, :, 32:] == VOID).all()
                np.testing.assert_array_equal(out.image[:, :, :32], last.image)
                continue
            finished, drawn = (0, 4) if stop == 1 else (4, 5)
            for side, there, all_of_it, shown in zip(
                Pair._fields, *(v if isinstance(v, Pair) else Pair(v) for v in (out, whole, last)), strict=True
            ):
                if there is None or name in ("synthesize", "segment"):
                    continue
                if name in ("outpaint", "repaint"):
                    assert len(there) == 5
                    blank = 0 if side == "image" else VOID
                    assert (there[drawn:, :, 10:] == blank).all()  # not begun
                    there = there[:drawn]
                np.testing.assert_array_equal(there[:finished], all_of_it[:finished])
                np.testing.assert_array_equal(there[finished:], shown)
                assert len(there) == drawn
    jax.tree.map(np.testing.assert_array_equal, every_answer(model)["sample"](), plain["sample"])


def test_an_answer_that_is_stopped_at_the_end_of_a_round_has_that_round_as_drawn(model):
    """By a head that estimates the clean image, which at level 0 has another estimate than the image itself."""
    config = model.config.copy_and_resolve_references()
    config.process.output = "x0"
    model = random_model(config, model.specs)
    whole = model.sample(TEXT, num=5, steps=3)
    for stop, there in ((3, 4), (6, 5)):  # after the last step of the first round of four, and of all
        stopped = model.sample(TEXT, num=5, steps=3, progress=lambda progress, stop=stop: progress.done < stop)
        jax.tree.map(lambda a, b, n=there: np.testing.assert_array_equal(a, b[:n]), stopped, whole)


def test_unseen_words_are_named_once_per_call(model):
    with pytest.warns(UserWarning, match="words this model has never seen: purple, zebra") as caught:
        model.sample("a street with a purple zebra", num=5)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample(TEXT)


def test_void_pixels_of_a_layout_say_nothing(model):
    void = np.arange(32) < 10
    a = model.synthesize(np.where(void, VOID, LAYOUTS[:2]), TEXT)
    b = model.synthesize(np.where(void, VOID, (LAYOUTS[:2] + void) % 10), TEXT)
    np.testing.assert_array_equal(a, b)
    assert np.any(a != model.synthesize(LAYOUTS[:2], TEXT))
    assert a.dtype == np.uint8 and a.shape == (2, 16, 32, 3)


def test_known_pixels_come_back_bit_for_bit(model):
    rng = np.random.default_rng(4)
    known = Pair(rng.random((3, 16, 32)) < 0.5, rng.random((3, 16, 32)) < 0.5)
    layouts = LAYOUTS[:3].copy()
    layouts[:, :3] = VOID
    out = model.outpaint(Pair(IMAGES[:3], layouts), known, TEXT)
    np.testing.assert_array_equal(out.image[known.image], IMAGES[:3][known.image])
    kept = known.layout & (layouts != VOID)
    np.testing.assert_array_equal(out.layout[kept], layouts[kept])
    assert out.layout.min() >= 0


def test_arrays_that_cannot_be_are_refused(model):
    with pytest.raises(ValueError, match="layouts hold label 10, expected 0..9 or void"):
        model.synthesize(LAYOUTS + 1)
    with pytest.raises(ValueError, match="expected uint8"):
        model.segment(IMAGES / 255)
    with pytest.raises(ValueError, match="expected uint8"):
        model.segment(IMAGES[0])
    with pytest.raises(ValueError, match="expected at least one"):
        model.segment([])
    with pytest.raises(ValueError, match="2 captions for 3 examples"):
        model.sample([TEXT, TEXT], num=3)
    with pytest.raises(ValueError, match="guidance is .1, 2, 3., expected one number or two"):
        model.sample(TEXT, guidance=(1, 2, 3))
    for seed in (-1, 2**32, 2**64):
        with pytest.raises(ValueError, match=f"seed is {seed}, expected 0 to 4294967295"):
            model.sample(TEXT, seed=seed)
    for call in (lambda: model.sample(steps=0), lambda: model.segment(IMAGES[:1], steps=0)):
        with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_numbers_that_are_not_finite_are_refused(model, bad):
    start, scales = Pair(IMAGES[:1], LAYOUTS[:1]), [{"layout": bad}, {"image": bad}, {"interval": (0, bad)}]
    for guidance in (bad, (1, bad), Guidance(text=Pair(bad, 1.0)), *(Guidance(**scale) for scale in scales)):
        for call in (model.sample, lambda **o: model.synthesize(LAYOUTS[:1], **o)):
            with pytest.raises(ValueError, match=r"guidance[a-z.]* is .*(nan|inf|e\+39), expected a finite number"):
                call(text=None, guidance=guidance)
    for options, said in (
        ({"start": start, "strength": bad}, "strength is"),
        ({"start": start, "strength": (0.5, bad)}, "strength is"),
        ({"steps": np.inf if bad > 0 else bad}, "steps is"),
    ):
        with pytest.raises(ValueError, match=said):
            model.sample(**options)
    for field in ("eta", "guidance", "image_guidance", "threshold", "share", "interval", "spacing"):
        value = (0.0, bad) if field in ("guidance", "interval") else bad
        with pytest.raises(ValueError, match=f"config.sample.{field}=.*: expected a finite number"):
            model.sampling(**{field: value})
    with pytest.raises(ValueError, match="confidence lies in"):
        model.synthesize(LAYOUTS[:1], confidence=np.full(LAYOUTS[:1].shape, bad))
    with pytest.raises(ValueError, match="log_snr_max is"):
        model.likelihood(start, log_snr_max=bad)


def test_outpainting_says_which_shape_is_wrong(model):
    known = np.ones((2, 16, 32), bool)
    with pytest.raises(ValueError, match=r"known.image has shape \(2, 3, 3\), expected \(2, 16, 32\)"):
        model.outpaint(Pair(IMAGES[:2], None), Pair(known[:, :3, :3], None))
    with pytest.raises(ValueError, match=r"shape \(2, 8, 8\), expected .N, H, W. with at least the model's size"):
        model.outpaint(Pair(IMAGES[:2, :8, :8], None), Pair(known[:, :8, :8], None))
    with pytest.raises(ValueError, match=r"layout has shape \(2, 8, 32\), expected \(2, 16, 32\)"):
        model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2, :8]), Pair(known, known))


def trained(model, **shares):
    """The model as if its levels had been drawn otherwise in training."""
    levels = dataclasses.replace(model.built.levels, **shares)
    return dataclasses.replace(model, built=model.built._replace(levels=levels))


DIAGONAL = dataclasses.asdict(LevelShares.shared())


def test_a_model_refuses_what_it_was_not_trained_for(model):
    def refusal(share):
        return pytest.raises(ValueError, match=f"was not trained: config.levels.{share} of this run is 0")

    known = Pair(np.ones((1, 16, 32), bool), None)
    with refusal("one_call"):
        trained(model, one_call=0.0).segment(IMAGES[:1])
    trained(model, one_call=0.0).segment(IMAGES[:1], steps=2)
    with refusal("joint"):
        trained(model, joint=0.0, independent=0.41).outpaint(Pair(IMAGES[:1], None), known)
    with refusal("layout_given_image"):
        trained(model, **DIAGONAL).segment(IMAGES[:1], samples=2)
    for call in (
        lambda m: m.segment(IMAGES[:1], probabilities=True),
        lambda m: m.synthesize(LAYOUTS[:1], confidence=0.5),
        lambda m: m.sample(guidance=gcdiff.Guidance(layout=2.0)),
        lambda m: m.sample(guidance=gcdiff.Guidance(image=2.0)),
    ):
        with pytest.raises(ValueError, match="trained on the diagonal only"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(trained(model, **DIAGONAL))


def test_a_model_of_the_diagonal_answers_by_repaint_and_says_so(model):
    diagonal = trained(model, **DIAGONAL)
    known = Pair(LAYOUTS[:2] > 4, LAYOUTS[:2] > 6)
    with pytest.warns(UserWarning, match="outpainting was not trained .*: RePaint answers"):
        out = diagonal.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT)
    again = model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, resamples=1)
    jax.tree.map(np.testing.assert_array_equal, out, again)
    np.testing.assert_array_equal(out.image[known.image], IMAGES[:2][known.image])
    np.testing.assert_array_equal(out.layout[known.layout], LAYOUTS[:2][known.layout])
    more = model.outpaint(Pair(IMAGES[:2], LAYOUTS[:2]), known, TEXT, resamples=3)
    assert np.any(more.image != again.image)
    with pytest.warns(UserWarning, match="RePaint answers"):
        assert diagonal.segment(IMAGES[:1]).shape == (1, 16, 32)
    with pytest.warns(UserWarning, match="RePaint answers"):
        assert diagonal.synthesize(LAYOUTS[:1]).shape == (1, 16, 32, 3)


def test_an_edit_begins_in_the_middle(model):
    start = Pair(IMAGES[:2], LAYOUTS[:2])
    edited = model.sample(TEXT, start=start, strength=(0.0, 0.5))
    np.testing.assert_array_equal(edited.image, start.image)
    assert np.any(edited.layout != start.layout)
    edited = model.sample(TEXT, start=start, strength=(0.5, 0.0))
    np.testing.assert_array_equal(edited.layout, start.layout)
    slight, strong = (model.sample(TEXT, start=start, strength=s) for s in (0.02, 0.9))
    assert (slight.layout != start.layout).mean() < (strong.layout != start.layout).mean()
    void = np.where(LAYOUTS[:2] > 5, VOID, LAYOUTS[:2])
    np.testing.assert_array_equal(model.sample(TEXT, start=Pair(IMAGES[:2], void), strength=(0.5, 0.0)).layout, void)
    for options, message in (
        ({"start": Pair(IMAGES[:2, :8], LAYOUTS[:2])}, r"start: image has shape \(2, 8, 32, 3\), expected \(N, H, W\)"),
        ({"start": (IMAGES[:2], None)}, "start: layout has shape None"),
        ({"start": start, "num": 2}, "expected no num, path or size beside it"),
        ({"size": (16, 64), "path": "image_only"}, "path is 'image_only', expected joint"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(**options)


def test_a_canvas_is_filled_window_by_window(model):
    pair = model.sample(TEXT, num=2, size=(16, 48), seed=2)
    assert pair.image.shape == (2, 16, 48, 3) and pair.layout.shape == (2, 16, 48)
    wide = Pair(np.concatenate([IMAGES[:2], IMAGES[2:4]], axis=2), np.concatenate([LAYOUTS[:2], LAYOUTS[2:4]], axis=2))
    known = np.arange(64) % 3 == np.zeros((2, 16, 1))
    heard = []
    out = model.outpaint(wide, Pair(known, known), TEXT, progress=heard.append)
    np.testing.assert_array_equal(out.image[known], wide.image[known])
    np.testing.assert_array_equal(out.layout[known], wide.layout[known])
    assert heard[-1].done == heard[-1].total == 3 * 3  # three windows of three steps
    with pytest.raises(
        ValueError, match="a canvas of 8x48 is smaller than the model's 16x32|at least the model's size"
    ):
        model.sample(size=(8, 48))


def test_a_confidence_lies_between_the_layout_and_nothing(model):
    base = model.synthesize(LAYOUTS[:2], TEXT)
    np.testing.assert_array_equal(model.synthesize(LAYOUTS[:2], TEXT, confidence=1.0), base)
    np.testing.assert_array_equal(model.synthesize(LAYOUTS[:2], TEXT, region_confidence=1.0), base)
    nothing = model.synthesize(np.full_like(LAYOUTS[:2], VOID), TEXT)
    for options in ({"confidence": 0.0}, {"region_confidence": np.zeros(10)}):
        np.testing.assert_array_equal(model.synthesize(LAYOUTS[:2], TEXT, **options), nothing)
    dial, evidence = (model.synthesize(LAYOUTS[:2], TEXT, confidence=0.6, evidence=e) for e in (False, True))
    assert np.any(dial != base) and np.any(dial != evidence)
    for options, message in (
        ({"confidence": 1.5}, "confidence lies in 1.5 to 1.5, expected 0 to 1"),
        ({"confidence": np.zeros(3)}, r"confidence has shape \(3,\), expected a number or \(2, 16, 32\)"),
        ({"evidence": True}, "evidence needs a confidence"),
    ):
        with pytest.raises(ValueError, match=message):
            model.synthesize(LAYOUTS[:2], **options)


def test_samples_and_windows_of_a_segmentation(model):
    drawn = model.segment(IMAGES[:3], samples=2)
    assert drawn.shape == (3, 2, 16, 32) and np.any(drawn[:, 0] != drawn[:, 1])
    np.testing.assert_array_equal(model.segment(IMAGES[:1], samples=2), drawn[:1])
    assert [y.shape for y in model.segment([IMAGES[0], picture(3, 40, 70)], samples=2)] == [(2, 16, 32), (2, 40, 70)]
    np.testing.assert_array_equal(model.segment(IMAGES[:3], windows=True), model.segment(IMAGES[:3]))
    large = picture(3, 40, 70)
    p = model.segment([large], probabilities=True, windows=True)
    assert p.shape == (1, 40, 70, 10)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-5)


def test_the_likelihood_has_named_parts_of_every_law_that_was_trained(model):
    report = model.likelihood(Pair(IMAGES[:5], LAYOUTS[:5]), TEXT, draws=2)
    assert set(report.legs) == {"joint", "image_only", "layout_only", "image_given_layout", "layout_given_image"}
    assert set(report.paths) == {"diagonal", "layout_first", "image_first"}
    assert report.legs["image_only"].layout is None and report.legs["joint"].layout.total.value > 0
    for path in ("diagonal", "image_first"):
        gap = report.paths[path].value - report.paths["layout_first"].value
        assert report.gaps[path].value == pytest.approx(gap)
    assert "-log p(y | x)" in report.table() and report.table().count("bits/pixel of y") == 3
    assert report.grid is None and "in continuous time" in report.table() and report.to_dict()["grid"] is None
    end = report.log_snr_max
    diagonal = trained(model, **DIAGONAL).likelihood(Pair(IMAGES[:5], LAYOUTS[:5]), TEXT, draws=2, log_snr_max=end)
    assert set(diagonal.legs) == {"joint"} and diagonal.legs["joint"] == report.legs["joint"]
    with pytest.raises(ValueError, match=r"likelihood: layout has shape \(5, 8, 32\), expected \(N, H, W\)"):
        model.likelihood(Pair(IMAGES[:5], LAYOUTS[:5, :8]))


def test_the_likelihood_on_a_grid_is_that_of_so_many_steps(model):
    """In one step from level 1 it is the negative log-likelihood of one-call segmentation."""
    heard, pair = [], Pair(IMAGES[:5], LAYOUTS[:5])
    one = model.likelihood(pair, TEXT, draws=2, grid=1, progress=heard.append)
    assert heard[0].done == 0 and heard[-1].done == heard[-1].total == 2 * 2 * len(one.legs)  # chunks, draws, legs
    p = np.take_along_axis(model.segment(pair.image, text=TEXT, probabilities=True), pair.layout[..., None], axis=-1)
    bits = one.legs["layout_given_image"].layout
    assert bits.total.value == pytest.approx(-np.log2(p).mean(), rel=1e-4)
    assert bits.diffusion.value == 0 and set(one.paths) == {"diagonal", "layout_first", "image_first"}
    report = model.likelihood(pair, TEXT, draws=2, grid=3, progress=heard.append)
    assert heard[-1].done == heard[-1].total == 2 * 2 * len(report.legs) * 2  # a random step and the last
    assert (report.grid, report.log_snr_max) == (3, None) and report.legs["joint"].image.diffusion.value > 0
    assert report.to_dict()["grid"] == 3 and "on a grid of 3 steps" in report.table()
    for options, message in (
        ({"grid": 0}, "grid is 0, expected at least 1 step"),
        (
            {"grid": 3, "log_snr_max": 9.0},
            "log_snr_max is 9.0 and grid is 3, expected one: a grid has its own last step",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            model.likelihood(pair, TEXT, **options)


@pytest.mark.parametrize("options, pieces", [({"log_snr_max": 8.0}, 5), ({"grid": 3}, 10)], ids=["continuous", "grid"])
def test_a_likelihood_that_is_stopped_is_that_of_the_examples_measured(model, options, pieces):
    """Two draws of five legs, on a grid of two steps each, for a chunk of four examples and one of the fifth."""
    pair, heard = Pair(IMAGES[:5], LAYOUTS[:5]), []

    def stop_at(count):
        def progress(now):
            heard.append(now.done)
            return now.done < count

        heard.clear()
        return model.likelihood(pair, TEXT, draws=2, progress=progress, **options)

    first = model.likelihood(Pair(IMAGES[:4], LAYOUTS[:4]), TEXT, draws=2, **options)
    for count in (2 * pieces, 2 * pieces + 1, 4 * pieces - 1):  # with the first chunk, and within the second
        assert stop_at(count) == first and heard[-1] == count
    assert stop_at(4 * pieces) == model.likelihood(pair, TEXT, draws=2, **options) != first
    for count in (0, 1, 2 * pieces - 1):
        with pytest.raises(Stopped, match="stopped before the first chunk of examples was measured"):
            stop_at(count)
        assert heard[-1] == count


def test_a_likelihood_may_be_stopped_while_its_last_step_is_sought(model):
    heard = []
    with pytest.raises(Stopped):
        model.likelihood(
            Pair(IMAGES[:5], LAYOUTS[:5]), TEXT, draws=2, progress=lambda now: heard.append(now.done) or len(heard) < 3
        )
    assert heard == [0, 0, 0]


def test_what_is_drawn_may_be_changed_on_the_way(model):
    other = model.sampling(image_step="dpm++", steps=4, path="layout_first", share=0.25)
    assert other.config.sample.steps == 4 and model.config.sample.steps == 3
    assert np.any(other.sample(TEXT).image != model.sample(TEXT).image)
    with pytest.raises(ValueError, match="config.sample.colour: there is no such field"):
        model.sampling(colour=3)
    with pytest.raises(ValueError, match="config.sample.image_step is 'euler', expected one of"):
        model.sampling(image_step="euler")


def test_cross_guidance_matters_and_text_scales_leave_it(model):
    base, guided = model.synthesize(LAYOUTS[:2], TEXT), model.sampling(layout_guidance=2.0)
    scaled = model.synthesize(LAYOUTS[:2], TEXT, guidance=gcdiff.Guidance(layout=2.0))
    assert np.any(base != scaled)
    np.testing.assert_array_equal(guided.synthesize(LAYOUTS[:2], TEXT, guidance=(1.0, 3.0)), scaled)
    off = gcdiff.Guidance(layout=2.0, interval=(0.0, 0.0))
    np.testing.assert_allclose(model.synthesize(LAYOUTS[:2], TEXT, guidance=off), base, atol=1)


@pytest.mark.parametrize("process", ["absorbing", "bits"])
def test_every_label_process_answers_every_question(model, process):
    """Random weights; labels are classes, known pixels come back bit for bit whatever the steps and the corrector do,
    and all steps take the process's state."""
    config = model.config.copy_and_resolve_references()
    config.process.layout = process
    config.sample.update(steps=2, image_step="dpm++")
    if process == "absorbing":
        config.sample.update(layout_step="psi", psi=2.0, corrector=1.0)
    other = random_model(config, model.specs)
    known, layouts = Pair(LAYOUTS[:2] > 4, LAYOUTS[:2] > 6), LAYOUTS[:2].copy()
    layouts[:, :3] = VOID
    out = other.outpaint(Pair(IMAGES[:2], layouts), known, TEXT, guidance=2.0)
    assert out.layout.dtype == np.int32 and out.layout.min() >= 0 and out.layout.max() < 10
    held = known._replace(layout=known.layout & (layouts != VOID))
    np.testing.assert_array_equal(out.image[held.image], IMAGES[:2][held.image])
    np.testing.assert_array_equal(out.layout[held.layout], layouts[held.layout])
    unknown = other.outpaint(Pair(IMAGES[:2], np.where(held.layout, layouts, 7)), held, TEXT, guidance=2.0)
    jax.tree.map(np.testing.assert_array_equal, out, unknown)  # void in a known mask is unknown
    p = other.segment(IMAGES[:2], probabilities=True)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-4)
    with pytest.raises(ValueError, match=f"evidence has no meaning for process.layout={process}"):
        other.synthesize(layouts, confidence=0.5, evidence=True)
    if process == "bits":
        with pytest.raises(ValueError, match="BitsProcess, expected one with a likelihood"):
            other.likelihood(Pair(IMAGES[:1], LAYOUTS[:1]))
