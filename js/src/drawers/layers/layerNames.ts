// The names of layers as people say them: "down_blocks.1.attentions.0.transformer_blocks.0.attn2" is "down 1, block 0".

const NOUNS: Readonly<Record<string, string>> = {
  down_blocks: "down",
  up_blocks: "up",
  mid_block: "mid",
  attentions: "block",
  transformer_blocks: "block",
};

/** The parts of a layer's name, as "down 1", "block 0" and, for a transformer block inside of it, "layer 0". */
function partsOf(layer: string): string[] {
  const parts: string[] = [];
  for (const [, path = "", , number] of layer.matchAll(/([a-z]\w*)(\.(\d+))?/gi)) {
    if (/^(attn\w*|processor)$/.test(path)) continue;
    const noun = NOUNS[path] ?? path.replace("_transformer_", "_").replace(/s$/, "").replaceAll("_", " ");
    const isNested = noun === "block" && parts.some((part) => part.startsWith("block"));
    parts.push([isNested ? "layer" : noun, number].filter(Boolean).join(" "));
  }
  return parts;
}

/** The name of each of a model's layers: without its "layer" part where the rest is unique. */
export function layerNames(layers: readonly string[]): ReadonlyMap<string, string> {
  const full = layers.map((layer) => [layer, partsOf(layer)] as const);
  const counts = new Map<string, number>();
  const short = (parts: readonly string[]) => parts.filter((part) => !part.startsWith("layer ")).join(", ");
  const count = (name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
  for (const [, parts] of full) for (const name of new Set([short(parts), parts.join(", ")])) count(name);
  return new Map(
    full.map(([layer, parts]) => {
      const name = [short(parts), parts.join(", ")].find(
        (candidate) => candidate !== "" && counts.get(candidate) === 1,
      );
      return [layer, name ?? layer];
    }),
  );
}
