// A prompt as chips before the tokenizer has had its say: words and marks apart, as CLIP splits them.

export function split(prompt: string): string[] {
  return prompt.match(/'(?:s|t|re|ve|m|ll|d)\b|\p{L}[\p{L}\p{M}]*|\p{N}|[^\s\p{L}\p{N}]+/giu) ?? [];
}
