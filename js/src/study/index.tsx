// The grid of a study as a widget of its own: filters, images, and which row is open.

import { batch, signal } from "@preact/signals";
import { render } from "preact";
import type { RenderProps } from "../core/anywidget";
import { watchTheme } from "../core/theme";
import { Filters } from "./Filters";
import { Grid } from "./Grid";
import {
  bytesOf,
  type Filters as FilterValues,
  type KernelMessage,
  type PageMessage,
  type Region,
  readTable,
  type Table,
} from "./protocol";
import { Thumbnails } from "./thumbnails";

interface Traits {
  readonly filters: FilterValues;
  readonly region: Partial<Region>;
  readonly active: number;
  readonly opened: number;
}

const NAMES = ["filters", "region", "active", "opened"] as const;

export function show({ model, el, signal: stopped }: RenderProps<PageMessage>): () => void {
  const life = new AbortController();
  stopped?.addEventListener("abort", () => life.abort());
  const read = () => Object.fromEntries(NAMES.map((name) => [name, model.get(name)])) as unknown as Traits;
  const traits = signal(read());
  const table = signal<Table | null>(null);
  const shown = signal(new Int32Array());
  const problem = signal("");
  const set = (values: Partial<Traits>) => {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    traits.value = { ...traits.value, ...values };
    model.save_changes();
  };
  const thumbnails = new Thumbnails((rows) => model.send({ type: "thumbnails", rows }));
  const receive = (message: KernelMessage, buffers: readonly ArrayBufferView[]) =>
    batch(() => {
      if (message.type === "table") table.value = readTable(message, buffers);
      else if (message.type === "shown") shown.value = new Int32Array(bytesOf(buffers[0] as ArrayBufferView));
      else if (message.type === "thumbnails") thumbnails.receive(message.rows, buffers);
      else {
        thumbnails.failed();
        problem.value = message.error;
      }
    });
  const listen = (name: string, callback: (...args: never[]) => void) => {
    model.on(name, callback);
    life.signal.addEventListener("abort", () => model.off(name, callback));
  };
  listen("msg:custom", receive as (...args: never[]) => void);
  for (const name of NAMES)
    listen(`change:${name}`, () => {
      traits.value = read();
    });

  const root = document.createElement("div");
  root.className = "dv dv-study";
  root.dataset.lmSuppressShortcuts = "true";
  root.addEventListener("focusin", ({ target }) => {
    (target as HTMLElement).dataset.lmSuppressShortcuts = "true";
  });
  root.addEventListener("keydown", (event) => event.stopPropagation());
  watchTheme(el, life.signal, (theme) => {
    root.dataset.theme = theme;
  });
  const View = () => {
    const { filters, region, active, opened } = traits.value;
    if (!table.value) return <p class="dv-soft">Loading the study …</p>;
    const [some, all] = [shown.value.length, table.value.rows.length];
    const count =
      some === all
        ? `${all.toLocaleString("en")} images`
        : `${some.toLocaleString("en")} of ${all.toLocaleString("en")} images`;
    const isFiltered = Object.keys(filters).length > 0 || region.steps !== undefined;
    return (
      <>
        <Filters
          columns={table.value.columns}
          filters={filters}
          region={region}
          change={(next) => set({ filters: next })}
          clearRegion={() => set({ region: {} })}
        />
        <p class="dv-count dv-soft" role="status" data-testid="count">
          {count}
          {isFiltered ? (
            <button type="button" class="dv-quiet" onClick={() => set({ filters: {}, region: {} })}>
              Show all
            </button>
          ) : null}
        </p>
        {problem.value ? (
          <p class="dv-problem" role="alert">
            {problem.value}
          </p>
        ) : null}
        <Grid
          table={table.value}
          shown={shown.value}
          thumbnails={thumbnails}
          active={active}
          opened={opened}
          activate={(row) => set({ active: row })}
          open={(row) => set({ opened: row })}
        />
        {some === 0 ? <p class="dv-none dv-soft">No row passes all filters.</p> : null}
      </>
    );
  };
  el.classList.add("dv-host");
  el.append(root);
  render(<View />, root);
  life.signal.addEventListener("abort", () => {
    render(null, root);
    root.remove();
  });
  model.send({ type: "hello" });
  return () => life.abort();
}

export default () => ({ render: show });
