// What a place attends to, as the kernel's reply says it.

import {
  bytes,
  listOf,
  type Maps,
  type Message,
  maybe,
  number,
  object,
  pair,
  type Region,
  whole,
} from "../../app/coreExports";
import { replyMaps } from "../replyMaps";

/** The place, as shares of the image. */
export type Place = readonly [top: number, left: number, bottom: number, right: number];

export interface AttendedImage {
  readonly maps: Maps;
  /** Its part of the attention, where words, image and references share it; else null. */
  readonly share: number | null;
  /** The encoded reference image; null for the image itself, and where the run did not keep it. */
  readonly image: Uint8Array | null;
}

export interface Attention {
  readonly run: string;
  readonly step: number;
  readonly place: Place;
  /** The text's part of the attention, padding included; null where they do not share it with the image. */
  readonly words: number | null;
  /** The image, then its references. */
  readonly images: readonly AttendedImage[];
  /** Whether this is one layer, not the mean over the default ones. */
  readonly isOneLayer?: boolean;
}

const REPLY = object({
  maps: listOf(object({ grid: pair(whole), scale: maybe(pair(number)), share: maybe(number) })),
  place: listOf(number),
  words: maybe(number),
  references: whole,
  layers: maybe(whole),
});

/** Reads the kernel's reply; throws an Error if its bytes do not match its header. */
export function readAttention({ content, buffers }: Message, run: string, step: number): Attention {
  const { maps, place, words, references, layers } = REPLY(content, "attention");
  const planes = replyMaps(buffers[0], maps);
  const images = maps.map(({ share }, index) => {
    const image = index > 0 && index <= references ? bytes(buffers[index], "reference") : null;
    return { maps: planes[index] as Maps, share, image };
  });
  if (place.length !== 4) throw new Error(`place: ${place.length} numbers`);
  return { run, step, place: place as unknown as Place, words, images, isOneLayer: layers === 1 };
}

/** The middle of a region, (y, x) as the kernel takes it. */
export function middleOf({ u0, v0, u1, v1 }: Region): readonly [y: number, x: number] {
  return [(v0 + v1) / 2, (u0 + u1) / 2];
}
