// What the kernel and the page of a study tell each other.

/** A column by which rows can be filtered. */
export interface FilterColumn {
  readonly name: string;
  readonly label: string;
  readonly kind: "choice" | "number" | "text";
  readonly choices: readonly string[];
  readonly low: number;
  readonly high: number;
}

/** Texts of a choice, both ends of a range of numbers, or a text to search for. */
export type Filter = readonly string[] | readonly [number | null, number | null] | string;
export type Filters = Readonly<Record<string, Filter>>;

/** The part of the chart that curves of the shown rows pass through. */
export interface Region {
  readonly measure: string;
  readonly steps: readonly [number, number];
  readonly values: readonly [number, number];
}

/** What the grid knows of all rows of the study, each at its place. */
export interface Table {
  readonly prompts: readonly string[];
  readonly conditions: readonly string[];
  readonly columns: readonly FilterColumn[];
  /** Errors of failed rows, by the number of the row. */
  readonly errors: Readonly<Record<string, string>>;
  readonly rows: Int32Array;
  readonly promptOf: Int32Array;
  readonly conditionOf: Int32Array;
  readonly seeds: Float64Array;
}

interface TableMessage {
  readonly type: "table";
  readonly prompts: readonly string[];
  readonly conditions: readonly string[];
  readonly columns: readonly FilterColumn[];
  readonly errors: Readonly<Record<string, string>>;
}

export type KernelMessage =
  | TableMessage
  | { readonly type: "shown" }
  | { readonly type: "thumbnails"; readonly rows: readonly number[] }
  | { readonly type: "error"; readonly error: string };

export type PageMessage =
  | { readonly type: "hello" }
  | { readonly type: "thumbnails"; readonly rows: readonly number[] };

/** A copy of a buffer's bytes, which lie anywhere in a larger one. */
export const bytesOf = (view: ArrayBufferView): ArrayBuffer =>
  new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength).slice().buffer;

export function readTable(message: TableMessage, buffers: readonly ArrayBufferView[]): Table {
  const [rows, prompts, conditions, seeds] = buffers.map(bytesOf);
  if (!rows || !prompts || !conditions || !seeds) throw new Error("The table of the study is incomplete.");
  return {
    prompts: message.prompts,
    conditions: message.conditions,
    columns: message.columns,
    errors: message.errors,
    rows: new Int32Array(rows),
    promptOf: new Int32Array(prompts),
    conditionOf: new Int32Array(conditions),
    seeds: new Float64Array(seeds),
  };
}
