// The filters of a study: a search of the prompts, those that are in use, and what others there are.

import { useState } from "preact/hooks";
import { Button } from "../ui/Button";
import { CrossIcon } from "../ui/icons";
import type { Filter, FilterColumn, Filters as FilterValues, Region } from "./protocol";

interface Props {
  readonly columns: readonly FilterColumn[];
  readonly filters: FilterValues;
  readonly region: Partial<Region>;
  readonly change: (filters: FilterValues) => void;
  readonly clearRegion: () => void;
}

/** These are offered at once; the others are added. */
const FIRST = ["prompt", "condition"];

const short = (value: number) => Number(value.toPrecision(3)).toString();

export function Filters({ columns, filters, region, change, clearRegion }: Props) {
  const [added, setAdded] = useState<readonly string[]>([]);
  const isShown = ({ name }: FilterColumn) => FIRST.includes(name) || added.includes(name) || name in filters;
  const shown = [...columns.filter(isShown)].sort((a, b) => rank(a, added) - rank(b, added));
  const others = columns.filter((column) => !isShown(column));
  const set = (name: string, filter: Filter | null) => {
    const { [name]: _, ...rest } = filters;
    change(filter === null ? rest : { ...rest, [name]: filter });
  };
  const remove = (name: string) => {
    setAdded(added.filter((other) => other !== name));
    set(name, null);
  };
  return (
    <div class="dv-filters" role="group" aria-label="Filters">
      {shown.map((column) => (
        <Field
          key={column.name}
          column={column}
          filter={filters[column.name]}
          set={(filter) => set(column.name, filter)}
          remove={FIRST.includes(column.name) ? null : () => remove(column.name)}
        />
      ))}
      {region.steps && region.values ? (
        <span class="dv-filter" data-testid="region">
          <span class="dv-soft">
            {region.measure} {short(region.values[0])} to {short(region.values[1])} in steps {region.steps[0]} to{" "}
            {region.steps[1]}
          </span>
          <Remove label="the marked part of the chart" remove={clearRegion} />
        </span>
      ) : null}
      {others.length > 0 ? (
        <select
          class="dv-add-filter"
          aria-label="Add a filter"
          value=""
          onChange={({ currentTarget }) => {
            setAdded([...added, currentTarget.value]);
            currentTarget.value = "";
          }}
        >
          <option value="">Add a filter …</option>
          {others.map(({ name, label }) => (
            <option key={name} value={name}>
              {label}
            </option>
          ))}
        </select>
      ) : null}
    </div>
  );
}

function rank({ name }: FilterColumn, added: readonly string[]): number {
  const first = FIRST.indexOf(name);
  return first >= 0 ? first : FIRST.length + added.indexOf(name) + 1;
}

interface FieldProps {
  readonly column: FilterColumn;
  readonly filter: Filter | undefined;
  readonly set: (filter: Filter | null) => void;
  readonly remove: (() => void) | null;
}

function Field({ column, filter, set, remove }: FieldProps) {
  return (
    <span class="dv-filter" data-kind={column.kind} data-testid={`filter-${column.name}`}>
      {column.kind === "text" ? (
        <Search column={column} filter={typeof filter === "string" ? filter : ""} set={set} />
      ) : column.kind === "choice" ? (
        <Choices column={column} chosen={(filter as readonly string[] | undefined) ?? []} set={set} />
      ) : (
        <Range
          column={column}
          ends={(filter as readonly [number | null, number | null] | undefined) ?? [null, null]}
          set={set}
        />
      )}
      {remove ? <Remove label={`the filter ${column.label}`} remove={remove} /> : null}
    </span>
  );
}

function Remove({ label, remove }: { readonly label: string; readonly remove: () => void }) {
  return (
    <Button class="dv-quiet dv-remove" aria-label={`Remove ${label}`} title={`Remove ${label}`} onClick={remove}>
      <CrossIcon />
    </Button>
  );
}

type ControlProps = Pick<FieldProps, "column" | "set">;

function Search({ column, filter, set }: ControlProps & { readonly filter: string }) {
  return (
    <input
      type="search"
      class="dv-search"
      placeholder={`Search ${column.name === "prompt" ? "the prompts" : column.label}`}
      aria-label={`Search ${column.label}`}
      value={filter}
      onInput={({ currentTarget }) => set(currentTarget.value || null)}
    />
  );
}

function Choices({ column, chosen, set }: ControlProps & { readonly chosen: readonly string[] }) {
  const toggle = (choice: string) => {
    const next = chosen.includes(choice) ? chosen.filter((other) => other !== choice) : [...chosen, choice];
    set(next.length > 0 ? next : null);
  };
  return (
    <>
      <span class="dv-soft">{column.label}</span>
      <span class="dv-choice" role="group" aria-label={column.label}>
        {column.choices.map((choice) => (
          <Button key={choice} aria-pressed={chosen.includes(choice)} onClick={() => toggle(choice)}>
            {choice}
          </Button>
        ))}
      </span>
    </>
  );
}

function Range({ column, ends, set }: ControlProps & { readonly ends: readonly [number | null, number | null] }) {
  const end = (index: 0 | 1) => {
    const label = index === 0 ? "least" : "largest";
    return (
      <input
        type="text"
        inputMode="decimal"
        class="dv-end"
        aria-label={`${column.label}, ${label} value`}
        placeholder={short(index === 0 ? column.low : column.high)}
        value={ends[index] === null ? "" : String(ends[index])}
        onChange={({ currentTarget }) => {
          const text = currentTarget.value.trim().replace(",", ".");
          const value = text === "" || !Number.isFinite(Number(text)) ? null : Number(text);
          if (value === null) currentTarget.value = "";
          const next = index === 0 ? ([value, ends[1]] as const) : ([ends[0], value] as const);
          set(next[0] === null && next[1] === null ? null : next);
        }}
      />
    );
  };
  return (
    <>
      <span class="dv-soft">{column.label}</span>
      {end(0)}
      <span class="dv-soft">to</span>
      {end(1)}
    </>
  );
}
