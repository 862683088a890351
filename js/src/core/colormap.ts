// Colour maps: perceptually uniform, readable with any colour vision, the same in light and dark themes.

/** Evenly spaced stops of viridis (van der Walt and Smith, CC0). */
const VIRIDIS =
  "440154481769472a7a433d843d4e8a355e8d2e6d8e297b8e23898e1f978b21a5852eb37c46c06f65cb5e89d548b0dd2fd8e219fde725";
/** Evenly spaced stops of magma (van der Walt and Smith, CC0), for a quantity that is not attention. */
const MAGMA =
  "0000040907201a10423111654a1079621980792282912b81aa337dc23b75d9466bec5860f7725cfc8e64feaa74fec68afde2a3fcfdbf";

export type Rgb = readonly [r: number, g: number, b: number];

function stops(hex: string): Rgb[] {
  return (hex.match(/.{6}/g) ?? []).map((stop) => {
    const n = Number.parseInt(stop, 16);
    return [n >> 16, (n >> 8) & 255, n & 255];
  });
}

function table(hex: string): readonly Rgb[] {
  const points = stops(hex);
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (points.length - 1);
    const k = Math.min(points.length - 2, Math.floor(at));
    const [a, b] = [points[k], points[k + 1]];
    if (!a || !b) return [0, 0, 0];
    const mix = (c: 0 | 1 | 2) => Math.round(a[c] + (b[c] - a[c]) * (at - k));
    return [mix(0), mix(1), mix(2)];
  });
}

export type MapName = "viridis" | "magma";

const HEX: Readonly<Record<MapName, string>> = { viridis: VIRIDIS, magma: MAGMA };

const LOOKUPS: Partial<Record<MapName, Uint32Array>> = {};

/** 256 colours as little-endian RGBA words with full alpha, ready to be written into image data. */
export function lookup(name: MapName): Uint32Array {
  LOOKUPS[name] ??= Uint32Array.from(table(HEX[name]), ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0);
  return LOOKUPS[name];
}

/** The colour of a level from 0 to 255; levels outside are clamped. */
export function colourAt(colours: Uint32Array, level: number): number {
  return colours[level < 0 ? 0 : level > 255 ? 255 : level | 0] as number;
}

const FADE_EXPONENT = 0.6;
const BAR_STOPS = 9;

/**
 * The share of the full opacity that a heat map has at each level from 0 to 255, so that the image stays visible where the
 * map is low. The exponent keeps medium levels visible; with an opacity proportional to the level they are lost.
 */
export const FADE: Float32Array = Float32Array.from({ length: 256 }, (_, level) => (level / 255) ** FADE_EXPONENT);

/** A CSS gradient of a heat map's colours as they lie over the image: transparent at the low end. */
export function fadedGradient(colours: readonly Rgb[]): string {
  const last = BAR_STOPS - 1;
  const stop = (i: number) => {
    const share = i / last;
    const [r, g, b] = colours[Math.round(share * (colours.length - 1))] ?? [0, 0, 0];
    return `rgb(${r} ${g} ${b}/${(share ** FADE_EXPONENT).toFixed(2)})`;
  };
  return `linear-gradient(90deg,${Array.from({ length: BAR_STOPS }, (_, i) => stop(i)).join()})`;
}

/** The stops of a colour map. */
export function coloursOf(name: MapName): readonly Rgb[] {
  return stops(HEX[name]);
}

/** A CSS gradient from the map's low end to its high end. */
export function gradient(name: MapName): string {
  return `linear-gradient(90deg,${stops(HEX[name])
    .map(([r, g, b]) => `rgb(${r} ${g} ${b})`)
    .join()})`;
}

/** Colours as "rrggbb", each with the names in `names`. */
function named(names: string): readonly (readonly [colour: Rgb, names: readonly string[]])[] {
  return names.split(", ").map((entry) => {
    const [hex = "", ...rest] = entry.split(" ");
    return [stops(hex)[0] ?? [0, 0, 0], rest];
  });
}

/** For several words, distinguishable with any colour vision (after Okabe and Ito), and the colour words they resemble. */
const HUES = named(
  "e69f00 orange yellow, 56b4e9 blue, cc79a7 pink, 009e73 green, f0e442 yellow, d55e00 red orange brown, 0072b2 blue",
);
const COLOUR_WORDS = new Map(
  named(
    "d03a30 red, e08020 orange, c9a200 yellow, 2f9e44 green, 2f6fdb blue, 7d4fc9 purple violet, e0609a pink, " +
      "8a5a33 brown, 4a4d52 black, b4b8be white, 8a8f98 grey gray",
  ).flatMap(([colour, names]) => names.map((name) => [name, colour] as const)),
);

/** A colour for each of several words that are shown together: a colour word has its own, others one unlike those. */
export function wordColours(texts: readonly string[]): Rgb[] {
  const names = texts.map((text) => {
    const matches =
      text
        .toLowerCase()
        .match(/[a-z]+/g)
        ?.filter((word) => COLOUR_WORDS.has(word)) ?? [];
    return matches.length === 1 ? (matches[0] as string) : "";
  });
  const free = HUES.filter(([, resembled]) => !resembled.some((name) => names.includes(name)));
  const others = free.length > 0 ? free : HUES;
  const colours: Rgb[] = [];
  let next = 0;
  for (const name of names) {
    const own = COLOUR_WORDS.get(name);
    colours.push(own && !colours.includes(own) ? own : (others[next++ % others.length]?.[0] as Rgb));
  }
  return colours;
}

export function css([r, g, b]: Rgb): string {
  return `rgb(${r} ${g} ${b})`;
}
