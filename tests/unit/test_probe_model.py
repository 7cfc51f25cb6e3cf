"""The probe model's recipe: documents without anything of the evaluation, training by the clock, a folder to serve."""

import ast
import json
import random
import re
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.probe_model import schedule
from benchmarks.probe_model.check import Greedy, check
from benchmarks.probe_model.document import ANSWER_WEIGHT, document, hidden
from benchmarks.probe_model.model import ROPE_THETA, hidden_states, weighted_loss
from benchmarks.probe_model.puzzles import FAMILIES, Draw, called, lists
from benchmarks.probe_model.scene import make_scene
from benchmarks.probe_model.stream import encoder
from benchmarks.probe_model.texts import STANDARD_LIBRARY, Texts, files_of, read_texts
from benchmarks.probe_model.train import Settings, train
from sfi_sglang.agents import prose
from sfi_sglang.evals import calls, carry, copying, retrieval
from sfi_sglang.serving.embedded_model import embedded_model

ROOT = Path(__file__).parents[2]
GENERATOR = ("calls", "document", "haystack", "phrases", "puzzles", "scene", "values", "words")
WORDS = {*retrieval.NAMES, *copying.FOLDERS, *copying.FILES, *copying.CITIES, *copying.COLORS, *calls.CITIES}
PARTS = (*retrieval.PLACES, *prose.SUBJECTS, *prose.VERBS, *prose.OBJECTS, *prose.ENDINGS)
TEMPLATES = [Path(module.__file__) for module in (retrieval, copying, calls)]
NONSENSE = Texts(["Lorem ipsum dolor sit amet,\nconsectetur elit.\n" * 90], ["x = f(y)\nreturn x + 1\n" * 90], {})
ENCODE = encoder(embedded_model())
TOKENIZER = Tokenizer.from_file(str(embedded_model() / "tokenizer.json"))


def constants(file: Path) -> list[str]:
    """String constants of a module, f-strings by their parts, without docstrings."""
    tree = ast.parse(file.read_text())
    owners = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docs = {id(node.body[0].value) for node in owners if isinstance(node.body[0], ast.Expr)}
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
    return [node.value for node in found if isinstance(node.value, str)]


def shingles(text: str, size: int = 4) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z]+", text.lower())
    return set(zip(*(words[i:] for i in range(size)), strict=False))


def text_of(pieces) -> str:
    return TOKENIZER.decode([token for ids, _ in pieces for token in ids], skip_special_tokens=False)


def made_draw(seed: int) -> Draw:
    rng = random.Random(seed)
    return Draw(rng, make_scene(rng, 20), lambda words: " ".join(f"w{rng.randrange(10**6)}" for _ in range(words)))


def test_nothing_of_the_evaluation_is_in_the_generator():
    strings = [text for name in GENERATOR for text in constants(ROOT / f"benchmarks/probe_model/{name}.py")]
    strings += [text_of(hidden(random.Random(seed), 3000, NONSENSE, ENCODE)) for seed in range(25)]
    templates = [carry.NOTE, *(text for file in TEMPLATES for text in constants(file))]
    asked = set().union(*map(shingles, templates))
    assert ("the", "access", "code", "of") in asked and ("here", "it", "is", "once") in asked
    for text in strings:
        assert not WORDS & set(re.findall(r"[A-Za-z]+", text)), text
        assert not asked & shingles(text), text
        assert not any(re.search(rf"\b{re.escape(part)}\b", text) for part in PARTS), text
        assert not any(label in text for label in ("Question:", "Answer:", "Report:", "Note:", "create_order"))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(30))
def test_what_is_asked_stands_in_the_facts(family, seed):
    puzzles = family(made_draw(seed), 6)
    assert puzzles and all(puzzle.asks for puzzle in puzzles)
    facts = [fact for puzzle in puzzles for fact in puzzle.facts]
    assert len(set(facts)) == len(facts)
    for puzzle in puzzles:
        told = "\n".join(puzzle.facts)
        for ask in puzzle.asks:
            assert ask.answer.strip()
            if family is lists:
                assert all(value in told for value in re.split(", | and |; ", ask.answer.strip()))
            elif family is called:
                assert all(number in told for number in re.findall(r"\d{3,}", ask.answer))
            else:
                assert ask.answer.startswith(" ") and ask.answer.strip() in told


def test_answers_follow_their_facts_in_the_document():
    for seed in range(12):
        pieces = hidden(random.Random(seed), 2500, NONSENSE, ENCODE)
        answers = [i for i, (_, weight) in enumerate(pieces) if weight == ANSWER_WEIGHT]
        assert answers
        for i in answers:
            before = text_of(pieces[:i])
            assert all(number in before for number in re.findall(r"\d{3,}", text_of(pieces[i : i + 1])))


@pytest.mark.parametrize("length", [128, 300, 2048])
def test_documents_are_seeded_and_of_exact_length(length):
    for seed in range(6):
        ids, weights = document(random.Random(seed), length, NONSENSE, ENCODE)
        assert len(ids) == len(weights) == length and min(weights) > 0
        assert (ids, weights) == document(random.Random(seed), length, NONSENSE, ENCODE)
        assert ids != document(random.Random(seed + 100), length, NONSENSE, ENCODE)[0]


def test_texts_leave_out_the_evaluations_filler(tmp_path):
    for name in ("a.md", "b.py", "sfi_sglang/c.py", "pydoc_data/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n" * 300)
    texts = read_texts([tmp_path])
    assert [text[:4] for text in (*texts.prose, *texts.code)] == ["a.md", "b.py"]
    assert texts.about["code"]["files"] == 1 and texts.about["code"]["bytes"] == len(texts.code[0])
    (tmp_path / "b.py").unlink()
    with pytest.raises(ValueError, match="no code"):
        read_texts([tmp_path])


def test_the_standard_librarys_modules_are_not_read():
    found = list(files_of(STANDARD_LIBRARY))
    assert found and not any(path.parent == STANDARD_LIBRARY or "pydoc_data" in path.parts for path in found)


def test_the_rate_follows_the_clock_to_zero():
    rates = [schedule.rate(share / 100, 1e-3) for share in range(101)]
    assert rates[0] == 0 == rates[100] == schedule.rate(1.2, 1e-3)
    assert max(rates) == pytest.approx(1e-3) and rates == sorted(rates[:6]) + sorted(rates[6:], reverse=True)
    rng = random.Random(0)
    assert max(schedule.pick_length(rng, 0.05, 4096) for _ in range(200)) == 1024
    late = [schedule.pick_length(rng, 0.5, 4096) for _ in range(400)]
    assert late.count(4096) > 160 and late.count(512) > 10


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A random model of two narrow layers with the embedded model's tokenizer."""
    folder, source = tmp_path_factory.mktemp("tiny"), embedded_model()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=49152, max_position_embeddings=128, tie_word_embeddings=True, **sizes, **heads)
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(source / name, folder / name)
    return folder


def test_the_loss_is_that_of_transformers(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    ids = torch.randint(1000, (2, 300))
    torch.testing.assert_close(hidden_states(model, ids), model.model(ids).last_hidden_state)
    loss, losses = weighted_loss(model, ids, torch.ones(2, 300))
    torch.testing.assert_close(loss, model(ids, labels=ids).loss)
    picked = torch.zeros(2, 300)
    picked[1, 7] = 3.0
    torch.testing.assert_close(weighted_loss(model, ids, picked)[0], losses[1, 6])


def test_training_ends_by_the_clock_and_writes_a_folder_to_serve(tiny, tmp_path):
    record = train(tiny, tmp_path, NONSENSE, Settings(0.1, 256, 3e-2, 1, workers=0))
    curve = record["curve"]
    assert record["seconds"] < 60 and record["tokens"] == 2 * 256 * len(curve)
    assert {tuple(row["lengths"]) for row in curve} <= {(a, b) for a in (128, 256) for b in (128, 256)}
    ids, weights = (torch.tensor([part]) for part in document(random.Random(0), 256, NONSENSE, ENCODE))
    before, after = (
        weighted_loss(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), ids, weights)[0]
        for folder in (tiny, tmp_path)
    )
    assert after < before
    assert json.loads((tmp_path / "train.json").read_text())["steps"] == len(curve)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.dtype == torch.bfloat16 and model.config.max_position_embeddings == 256
    assert model.config.rope_parameters["rope_theta"] == ROPE_THETA
    scores = check(tmp_path, [200], 1, lambda score: None)
    assert {score.task for score in scores} == {"retrieval", "copy", "tools"} and len(scores) == 10


def test_greedy_decoding_writes_what_it_is_told_only_if_it_would(tiny):
    greedy = Greedy(tiny)
    prompt = greedy.encode("The cook saw 12")
    free = greedy.text(prompt, greedy.encode(" nothing of it"), 6)
    ids = torch.tensor([prompt])
    for _ in range(6):
        ids = torch.cat([ids, greedy.model(ids).logits[:, -1:].argmax(-1)], 1)
    wanted = ids[0, len(prompt) :].tolist()
    assert free == greedy.tokenizer.decode(wanted)
    assert greedy.text(prompt, wanted[:4], 6) == greedy.tokenizer.decode(wanted[:5])
    assert re.fullmatch("[A-H][0-9]{2}", greedy.text(prompt, greedy.encode("B12"), 9, "[A-H][0-9]{2}"))
