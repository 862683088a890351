// Words of a prompt before its run: those of `split_words` in Python (tests/traces/test_prompt_words.py has the same).

import { expect, it } from "vitest";
import { directionOf } from "../../src/core/alignWords";
import { splitPrompt } from "../../src/core/splitWords";

const SPLIT: readonly (readonly [script: string, prompt: string, words: readonly string[]])[] = [
  ["English", "a red circle, big!", ["a", "red", "circle", ",", "big", "!"]],
  ["English with an apostrophe", "the boy's 2 boats", ["the", "boy's", "2", "boats"]],
  ["nothing", "  ", []],
  ["markup", "<b>hi</b>", ["<", "b", ">", "hi", "<", "/", "b", ">"]],
  ["Russian and Hebrew", "красный круг שלום", ["красный", "круг", "שלום"]],
  ["pointed Hebrew", "שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]],
  ["Arabic", "قِطَّة سوداء،", ["قِطَّة", "سوداء", "،"]],
  ["Hindi", "हिन्दी में बिल्ली", ["हिन्दी", "में", "बिल्ली"]],
  ["Hindi with a joiner", "नि\u200dक", ["नि\u200dक"]],
  ["Thai", "แมวดำบนน้ำ", ["แ", "ม", "ว", "ดำ", "บ", "น", "น้ำ"]],
  ["Burmese", "ကြောင်္မ", ["ကြော", "င်္မ"]],
  ["Khmer", "ឆ្មា", ["ឆ្មា"]],
  ["Chinese", "一只黑猫", ["一", "只", "黑", "猫"]],
  ["Japanese", "草の上の猫、カメラ", ["草", "の", "上", "の", "猫", "、", "カ", "メ", "ラ"]],
  ["half-width kana", "ｶﾞ", ["ｶﾞ"]],
  ["Korean", "한국어 고양이", ["한국어", "고양이"]],
  ["decomposed Korean", "한국어".normalize("NFD"), ["한국어".normalize("NFD")]],
  ["decomposed accents", "Cafe\u0301 na\u00efve", ["Cafe\u0301", "na\u00efve"]],
  ["marks on marks", "5\u20e3 x\u0301!", ["5\u20e3", "x\u0301", "!"]],
  ["emoji", "👨\u200d👩\u200d👧 👍🏽🇫🇷🇩🇪 ok", ["👨\u200d👩\u200d👧", "👍🏽", "🇫🇷", "🇩🇪", "ok"]],
];

it.each(SPLIT)("splits %s as the kernel does", (_, prompt, words) => expect(splitPrompt(prompt)).toEqual(words));

it.each(SPLIT)("cuts %s only between characters, and loses none", (_, prompt) => {
  const starts = new Set(Array.from(new Intl.Segmenter().segment(prompt), ({ index }) => index));
  let end = 0;
  for (const word of splitPrompt(prompt)) {
    const start = prompt.indexOf(word, end);
    expect(prompt.slice(end, start).trim()).toBe("");
    expect(starts.has(start)).toBe(true);
    end = start + word.length;
  }
  expect(prompt.slice(end).trim()).toBe("");
});

it.each([
  ["قطة سوداء", "rtl"],
  ["(2) שָׁלוֹם a red circle", "rtl"],
  ["a red circle קטן", "ltr"],
  ["", "ltr"],
])("the words of %j run %s", (prompt, direction) => expect(directionOf(prompt)).toBe(direction));
