import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { pack, unpack } from "../../src/core/packedRun";
import { decode, type Message } from "../../src/core/protocol";
import { ProtocolError } from "../../src/core/readers";
import { readLayers } from "../../src/drawers/layers/layerMaps";
import { runContent, stepBuffers, stepContent } from "../host";

interface Golden {
  readonly error?: boolean;
  readonly messages?: readonly {
    readonly content: object;
    readonly buffers: readonly string[];
    readonly maps?: number[][];
  }[];
}

const folder = new URL("../../../tests/golden/", import.meta.url);
const names = readdirSync(folder)
  .filter((name) => name.endsWith(".bin"))
  .map((name) => name.slice(0, -4));
const golden = (name: string): [Uint8Array, Golden] => [
  new Uint8Array(readFileSync(new URL(`${name}.bin`, folder))),
  JSON.parse(readFileSync(new URL(`${name}.json`, folder), "utf8")),
];
const hex = (view: ArrayBufferView) => Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString("hex");

describe("golden files", () => {
  it("are there", () => expect(names).toContain("run"));

  it.each(names)("%s reads as the Python side wrote it", (name) => {
    const [data, wanted] = golden(name);
    if (wanted.error) {
      expect(() => unpack(data).map(decode)).toThrow(ProtocolError);
      return;
    }
    const messages = unpack(data);
    expect(messages.map((message) => message.content)).toEqual(wanted.messages?.map((message) => message.content));
    expect(messages.map((message) => message.buffers.map(hex))).toEqual(
      wanted.messages?.map((message) => message.buffers),
    );
    messages.map(decode).forEach((message, i) => {
      if (message.type === "reply") expect(readLayers(message).maps.length).toBeGreaterThan(0);
      if (message.type !== "step") return;
      const { data: bytes, scales, height, width } = message.maps;
      const values = scales.map((scale, w) =>
        Array.from(bytes.subarray(w * height * width, (w + 1) * height * width), (byte) =>
          scale ? scale[0] + (byte / 255) * (scale[1] - scale[0]) : null,
        ),
      );
      wanted.messages?.[i]?.maps?.forEach((map, w) => {
        map?.forEach((value, k) => {
          const found = values[w]?.[k];
          if (value === null) expect(found).toBeNull();
          else expect(found).toBeCloseTo(value, 5);
        });
      });
    });
  });

  it("pack again to the same messages", () => {
    const [data] = golden("run");
    const messages = unpack(data);
    const again = unpack(pack(messages));
    expect(again.map((m) => m.content)).toEqual(messages.map((m) => m.content));
    expect(again.map((m) => m.buffers.map(hex))).toEqual(messages.map((m) => m.buffers.map(hex)));
  });

  it("read from a view into a larger buffer", () => {
    const [data] = golden("run");
    const wide = new Uint8Array(data.length + 11);
    wide.set(data, 7);
    const view = new DataView(wide.buffer, 7, data.length);
    expect(unpack(view).length).toBe(unpack(data).length);
  });
});

describe("decode", () => {
  const step = (over: object = {}, buffers: readonly ArrayBufferView[] = stepBuffers()): Message => ({
    content: stepContent(0, 1, "r1", over),
    buffers,
  });

  it("gives each image its view and the last buffer to the maps", () => {
    const [image, maps] = stepBuffers(9) as [Uint8Array, Uint8Array];
    const latents = new Uint8Array([1, 2]);
    const message = decode(step({ views: ["prediction", "latents"] }, [image, latents, maps]));
    if (message.type !== "step") throw new Error(message.type);
    expect(message.images.prediction).toEqual(image);
    expect(message.images.latents).toEqual(latents);
    expect(message.images.guidance).toBeUndefined();
    expect(message.maps).toMatchObject({ height: 2, width: 2 });
    expect(message.maps.data).toEqual(maps);
  });

  it("gives a buffer behind the maps to the refined ones", () => {
    const [image, maps] = stepBuffers(9) as [Uint8Array, Uint8Array];
    const refined = { shape: [5, 1, 1], scales: [null, null, null, null, null] };
    const data = new Uint8Array([1, 2, 3, 4, 5]);
    const message = decode(step({ refined }, [image, maps, data]));
    if (message.type !== "step") throw new Error(message.type);
    expect(message.maps.data).toEqual(maps);
    expect(message.refined).toMatchObject({ height: 1, width: 1, data });
    expect(() => decode(step({ refined }, [image, maps]))).toThrow("maps");
  });

  it("takes null for numbers that JSON cannot carry", () => {
    const message = decode(step({ timestep: null, sigma: null }));
    expect(message).toMatchObject({ timestep: null, sigma: null });
  });

  it.each([
    ["no object", null],
    ["an unknown type", { type: "surprise", run: "r" }],
    ["a run that is no string", { ...stepContent(0), run: 3 }],
    ["a negative index", stepContent(-1)],
    ["a step that is no number", { ...stepContent(0), index: "0" }],
    [
      "maps of another size",
      stepContent(0, 1, "r1", { maps: { shape: [5, 2, 3], scales: [null, null, null, null, null] } }),
    ],
    ["too few scales", stepContent(0, 1, "r1", { maps: { shape: [5, 2, 2], scales: [null] } })],
    ["an unknown view", stepContent(0, 1, "r1", { views: ["x-ray"] })],
    [
      "an unknown kind of word",
      runContent("r", 0, { words: [{ text: "a", tokens: [], token_texts: [], kind: "?", unknown: false }] }),
    ],
  ])("refuses %s", (_, content) => {
    expect(() => decode({ content, buffers: stepBuffers() })).toThrow(ProtocolError);
  });

  it("refuses a step whose buffers are missing", () => {
    expect(() => decode(step({}, []))).toThrow(/buffer missing/);
  });
});
