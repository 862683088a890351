"""The tokenizers of the text encoders in small, built in memory: real classes and rules, vocabularies of about 1500.

Not a test: part of the workshop. Any text tokenizes, frequent words are one token, rare ones several. Vocabularies come
from the words of CLIP's own (tests.pipelines), which are sorted by how often people write them. The words of the
fixed prompts that pipelines put around the user's count as frequent, as they are for the real tokenizers: Qwen-Image
drops a fixed number of tokens and relies on it.
"""

from __future__ import annotations

import functools
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertTokenizer,
    GemmaTokenizer,
    PixtralImageProcessor,
    PixtralProcessor,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    T5Tokenizer,
    XLMRobertaTokenizer,
)

from tests.pipelines import _vocabulary

FIXED_PROMPTS = [
    *("system", "user", "assistant", "\n\n"),
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships"
    " of the objects and background:",
    "You are an assistant designed to generate superior images with the superior degree of image-text alignment"
    " based on textual prompts or user prompts. <Prompt Start>",
    "You are an AI that reasons about image descriptions. You give structured responses focusing on object"
    " relationships, object attribution and actions without speculation.",
]
_PIECES = 1500
_QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
QWEN_PARTS_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{{ '<|image_pad|>' if part.type == 'image' else part.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MISTRAL_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{% set ends = ['[SYSTEM_PROMPT]', '[/SYSTEM_PROMPT]'] %}"
    "{% elif message.role == 'user' %}{% set ends = ['[INST]', '[/INST]'] %}"
    "{% else %}{% set ends = ['', eos_token] %}{% endif %}"
    "{{ ends[0] }}{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{{ '[IMG]' if part.type == 'image' else part.text }}{% endfor %}{% endif %}{{ ends[1] }}{% endfor %}"
)
_GLM_CHAT = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# how the byte-level tokenizers of Qwen, Llama 3 and Mistral cut text before merging, in plain form
_WORD_CUTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@functools.cache
def words(count: int = 900) -> list[str]:
    """Frequent words, the most frequent first."""
    pieces = (token.removesuffix("</w>") for token in _vocabulary()[0] if token.endswith("</w>"))
    return [piece for piece in pieces if len(piece) > 1 and piece.isascii() and piece.isalpha()][:count]


def _corpus() -> list[str]:
    """Lines to learn merges from: each word as often as its rank says, the fixed prompts very often."""
    return [
        *FIXED_PROMPTS * 50,
        *(f" {word}" for rank, word in enumerate(words()) for _ in range(1 + 300 // (rank + 1))),
    ]


def _trained(tokenizer: Tokenizer, size: int, first: list[str], alphabet: list[str]) -> tuple[dict[str, int], Any]:
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _byte_level() -> Any:
    cut = pre_tokenizers.Split(Regex(_WORD_CUTS), behavior="isolated")
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


@functools.cache
def _byte_merges() -> tuple[dict[str, int], Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _byte_level()
    return _trained(tokenizer, _PIECES, [], sorted(pre_tokenizers.ByteLevel.alphabet()))


@functools.cache
def _metaspace_merges() -> tuple[dict[str, int], Any]:
    """For Gemma: spaces are "▁", bytes are the fallback for every character that is not in the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    first = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return _trained(tokenizer, _PIECES, first, ["▁", *map(chr, range(33, 127))])


@functools.cache
def _scored_pieces() -> list[tuple[str, float]]:
    """For T5: pieces with log-probabilities, whole words first, then parts of words, then single characters."""
    parts = [token.removesuffix("</w>") for token in _vocabulary()[0]]
    inner = [part for part in parts if 1 < len(part) < 5 and part.isascii() and part.isalpha()]
    fixed = [word for line in FIXED_PROMPTS for word in line.split() if word.isalpha()]
    pieces = [f"▁{word}" for word in [*"aAI", *fixed, *words()]] + ["▁", ",", ".", *inner[:500]]
    pieces += [chr(code) for code in [*range(33, 127), *range(0xA1, 0x180)]]
    ranked = list(dict.fromkeys(pieces))
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return specials + [(piece, -math.log(rank + 10.0)) for rank, piece in enumerate(ranked)]


def t5(max_length: int = 512) -> Any:
    """Unigram as SentencePiece makes it: `<pad>` is 0, `</s>` ends the text, no word starts without "▁"."""
    tokenizer: Any = T5Tokenizer(vocab=list(_scored_pieces()), model_max_length=max_length)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    return tokenizer


def gemma(max_length: int = 8192) -> Any:
    """BPE over "▁" with byte fallback and `<bos>`; pads on the left unless the pipeline says otherwise."""
    vocabulary, merges = _metaspace_merges()
    config: dict[str, Any] = {"vocab": dict(vocabulary), "merges": list(merges)}
    return GemmaTokenizer(**config, add_bos_token=True, padding_side="left", model_max_length=max_length)


def qwen(max_length: int = 131072) -> Any:
    """Byte-level BPE with the special tokens and a chat template as Qwen 2.5 and 3 have them; no BOS, no EOS."""
    vocabulary, merges = _byte_merges()
    config: dict[str, Any] = {"vocab": dict(vocabulary), "merges": list(merges)}
    tokenizer: Any = Qwen2Tokenizer(**config, eos_token="<|im_end|>", model_max_length=max_length)
    special = ["<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"extra_special_tokens": special})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = _QWEN_CHAT
    return tokenizer


def _byte_level_tokenizer(special: list[str], **names: Any) -> Any:
    vocabulary, merges = _byte_merges()
    ids = {token: index for index, token in enumerate([*special, *vocabulary])}
    backend = Tokenizer(models.BPE(ids, list(merges)))
    backend.pre_tokenizer = _byte_level()
    backend.decoder = decoders.ByteLevel()
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=backend, add_bos_token="bos_token" in names, **names)
    tokenizer.add_special_tokens({"extra_special_tokens": [token for token in special if token not in names.values()]})
    return tokenizer


def llama3(max_length: int = 131072) -> Any:
    """Byte-level BPE with `<|begin_of_text|>` in front; no padding token of its own: pipelines take EOS."""
    ends = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    return _byte_level_tokenizer(list(ends.values()), **ends, model_max_length=max_length)


def glm(max_length: int = 128000) -> Any:
    """Byte-level BPE as GLM 4 has it: `[gMASK]<sop>` in front, pads on the left with `<|endoftext|>`."""
    special = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]
    ends = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    tokenizer = _byte_level_tokenizer(special, **ends, padding_side="left", model_max_length=max_length)
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[gMASK]", "<sop>")]
    prefix = "[gMASK] <sop> $A"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(prefix, f"{prefix} $B", ids)
    tokenizer.chat_template = _GLM_CHAT
    return tokenizer


def mistral(max_length: int = 131072) -> Any:
    """The processor that FLUX.2 calls its tokenizer: chat messages in, ids out; pads on the left."""
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    special += ["[IMG]", "[IMG_BREAK]", "[IMG_END]", "<pad>"]
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    tokenizer = _byte_level_tokenizer(special, **ends, padding_side="left", model_max_length=max_length)
    config: dict[str, Any] = {"size": {"longest_edge": 64}, "patch_size": {"height": 14, "width": 14}}
    images: Any = PixtralImageProcessor(**config)
    return PixtralProcessor(images, tokenizer, patch_size=14, spatial_merge_size=2, chat_template=_MISTRAL_CHAT)


def phi3(max_length: int = 131072) -> Any:
    """Byte-level BPE with `<s>` of id 1 in front and the special tokens of OmniGen's chat; the pipeline pads."""
    special = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>", "<|assistant|>", "<|diffusion|>", "<img>", "</img>"]
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    return _byte_level_tokenizer(special, **ends, model_max_length=max_length)


@functools.cache
def _sentencepiece_file() -> str:
    """A file with a tiny model of SentencePiece: words in pieces, bytes for all else."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_corpus()),
        model_writer=model,
        vocab_size=_PIECES,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = Path(tempfile.mkdtemp()) / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return str(path)


def chat_glm(max_length: int = 256) -> Any:
    """ChatGLM's, which is written in Python: `[gMASK] sop` in front, pads on the left, reports no offsets."""
    from diffusers.pipelines.kolors import ChatGLMTokenizer

    return ChatGLMTokenizer(_sentencepiece_file(), model_max_length=max_length)


def bert(max_length: int = 77) -> Any:
    """WordPiece: lower case, `[CLS]` and `[SEP]` around the text, parts of words start with "##"."""
    parts = [token.removesuffix("</w>") for token in _vocabulary()[0] if len(token) < 5 and token.isascii()]
    letters = [chr(code) for code in [*range(33, 65), *range(91, 127)]]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *words()]
    pieces += [f"##{part}" for part in [*letters, *parts] if part.isalnum()]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    return BertTokenizer(vocab=vocabulary, model_max_length=max_length)


def xlm_roberta(max_length: int = 77) -> Any:
    """Unigram as T5's, with `<s>` in front of the text and `</s>` behind it."""
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary: Any = [*special, *_scored_pieces()[3:], ("<mask>", 0.0)]
    return XLMRobertaTokenizer(vocab=vocabulary, model_max_length=max_length)
