// The filmstrip shows whole frames wherever they fit.

import "../setup";
import { beforeEach, expect, it, vi } from "vitest";
import { ImageCache } from "../../src/core/images";
import { decode, type RunMessage, type StepMessage } from "../../src/core/protocol";
import { Run } from "../../src/core/store";
import { Filmstrip } from "../../src/views/filmstrip";
import { runContent, stepBuffers, stepContent } from "../host";

interface Drawn {
  readonly source: { x: number; y: number; w: number; h: number };
  readonly target: { x: number; y: number; w: number; h: number };
}

const HEIGHT = 44;
const drawn: Drawn[] = [];

function canvas(width: number): CanvasRenderingContext2D {
  const drawImage = (thumb: { width: number; height: number }, ...n: number[]) => {
    const [x = 0, y = 0, w = 0, h = 0, left = 0, top = 0, wide = 0, high = 0] = n;
    drawn.push({
      source: { x: x / thumb.width, y: y / thumb.height, w: w / thumb.width, h: h / thumb.height },
      target: { x: left, y: top, w: wide, h: high },
    });
  };
  return { canvas: { width, height: HEIGHT }, clearRect() {}, drawImage } as unknown as CanvasRenderingContext2D;
}

/** What is drawn for `steps` frames of h x w pixels on a strip of this width. */
async function film(steps: number, width: number, [h, w] = [8, 8]): Promise<void> {
  vi.stubGlobal("createImageBitmap", async () => ({ width: w, height: h }));
  const images = new ImageCache();
  const run = new Run(decode({ content: runContent("r1", 0, { steps, image: [h, w] }), buffers: [] }) as RunMessage);
  for (let i = 0; i < steps; i++) {
    const step = decode({ content: stepContent(i), buffers: stepBuffers(i) }) as StepMessage;
    await images.load(step.images.prediction as Uint8Array);
    run.addStep(step);
  }
  drawn.length = 0;
  new Filmstrip(images).draw(canvas(width), { width, height: HEIGHT, ratio: 1 }, run);
}

beforeEach(() => {
  vi.unstubAllGlobals();
});

it("shows few steps as whole frames, each in the middle of its wide cell, which a faint part of it fills", async () => {
  await film(12, 1400);
  const [behind, frames] = [0, 1].map((odd) => drawn.filter((_, i) => i % 2 === odd)) as [Drawn[], Drawn[]];
  expect(frames).toHaveLength(12);
  expect(behind.reduce((sum, { target }) => sum + target.w, 0)).toBe(1400);
  for (const { source, target } of behind) expect((source.w / source.h) * (target.h / target.w)).toBeCloseTo(1, 5); // cropped, not stretched
  frames.forEach(({ source, target }, i) => {
    expect(source).toEqual({ x: 0, y: 0, w: 1, h: 1 });
    expect([target.w, target.h]).toEqual([HEIGHT, HEIGHT]);
    expect(target.x + target.w / 2).toBeCloseTo(((i + 0.5) * 1400) / 12, -0.5);
  });
});

it("shows as many of many steps as fit, hardly cut", async () => {
  await film(100, 704);
  expect(drawn).toHaveLength(16);
  for (const { source } of drawn) expect(source.w).toBeGreaterThan(0.95);
});

it("fills cells that are a little wider than their frames, without a seam between them", async () => {
  await film(16, 16 * 48);
  expect(drawn).toHaveLength(16);
  drawn.forEach(({ source, target }, i) => {
    expect(target).toEqual({ x: i * 48, y: 0, w: 48, h: HEIGHT });
    expect((source.w / source.h) * (target.h / target.w)).toBeCloseTo(1, 5); // cropped, not stretched
  });
});

it("shows the image before until the one that replaces it is decoded", async () => {
  vi.stubGlobal("createImageBitmap", async () => ({ width: 8, height: 8 }));
  vi.stubGlobal("requestAnimationFrame", () => 0);
  const images = new ImageCache();
  const strip = new Filmstrip(images);
  const run = new Run(decode({ content: runContent("r1", 0, { steps: 1, image: [8, 8] }), buffers: [] }) as RunMessage);
  const message = () => decode({ content: stepContent(0), buffers: stepBuffers(0) }) as StepMessage;
  const first = message();
  await images.load(first.images.prediction as Uint8Array);
  run.addStep(first);
  const size = { width: HEIGHT, height: HEIGHT, ratio: 1 };
  strip.draw(canvas(HEIGHT), size, run);
  const replaced = message();
  run.addStep(replaced);
  drawn.length = 0;
  strip.draw(canvas(HEIGHT), size, run);
  expect(drawn).toHaveLength(1);
  const other = new Run(
    decode({ content: runContent("r2", 1, { steps: 1, image: [8, 8] }), buffers: [] }) as RunMessage,
  );
  const ofOther = message();
  other.addStep(ofOther);
  strip.draw(canvas(HEIGHT), size, other);
  expect(drawn).toHaveLength(1);
  for (const step of [replaced, ofOther]) await images.load(step.images.prediction as Uint8Array);
});

it("keeps the shape of wide and of high images", async () => {
  await film(100, 704, [8, 16]);
  expect(drawn).toHaveLength(8);
  for (const { target, source } of drawn) {
    expect(target.w / target.h).toBeCloseTo(2, 5);
    expect(source).toEqual({ x: 0, y: 0, w: 1, h: 1 });
  }
  await film(100, 704, [16, 8]);
  expect(drawn).toHaveLength(32);
});
