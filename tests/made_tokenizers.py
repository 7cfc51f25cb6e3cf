"""Small tokenizers of every common kind, trained in a second, as transformers wraps them."""

import json
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sfi_sglang.serving.embedded_model import embedded_model

SPECIAL = ["<unk>", "<s>", "<|im_start|>", "<|im_end|>", "<|im_end|>!", "<|", "[TOOL]", "é|>"]  # some begin alike
CODE = 'def add(one, other):\n    """Sum of both."""\n    return one + other  # é, 日本, 🙂\n\n'
CALL = json.dumps({"name": "read", "arguments": {"path": "src/a b.py", "lines": [1, 20], "text": "naïve\n\t“q”"}})
CORPUS = [
    CODE,
    CALL,
    "The harbor master wrote that 17 ships came in. It's late, isn't it?",
    " Zwölf Boxkämpfer",
    "日本語のテキスト",
] * 20


def wrapped(tokenizer: Tokenizer, **kwargs) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", **kwargs)


def trained(tokenizer: Tokenizer, trainer: type, **options) -> Tokenizer:
    """With SPECIAL, and a token that is looked for in the normalised text."""
    tokenizer.train_from_iterator(
        CORPUS, trainer(vocab_size=600, show_progress=False, special_tokens=SPECIAL, **options)
    )
    tokenizer.add_tokens([AddedToken("harbor m", normalized=True)])
    return tokenizer


def bytes_bpe(prefix_space: bool = False) -> Tokenizer:
    """As GPT-2, Llama 3 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.post_processor = processors.ByteLevel()
    return trained(tokenizer, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def qwen_like() -> Tokenizer:
    tokenizer = bytes_bpe()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def llama_like() -> Tokenizer:
    """As Llama 2: the normalizer marks words, a token opens the text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.ByteFallback()
    return trained(tokenizer, trainers.BpeTrainer)


def metaspace(scheme: str) -> Tokenizer:
    """As SentencePiece: Unigram, words marked by the pre-tokenizer."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    return trained(tokenizer, trainers.UnigramTrainer, unk_token="<unk>")


def bert_like() -> Tokenizer:
    """WordPiece with a normalizer that changes case and lengths; two tokens around a text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained(tokenizer, trainers.WordPieceTrainer)
    tokenizer.post_processor = processors.BertProcessing(("<|im_end|>", 3), ("<s>", 1))
    return tokenizer


EXACT = {
    "bytes": bytes_bpe,
    "bytes, space before": lambda: bytes_bpe(prefix_space=True),
    "qwen": qwen_like,
    "llama": llama_like,
    "metaspace always": lambda: metaspace("always"),
    "metaspace never": lambda: metaspace("never"),
    "bert": bert_like,
}


@cache
def made(name: str) -> PreTrainedTokenizerFast:
    """One of EXACT, or `embedded`: the embedded model's own."""
    if name == "embedded":
        tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(embedded_model())
        return tokenizer
    return wrapped(EXACT[name]())
