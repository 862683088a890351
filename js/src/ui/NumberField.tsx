// A number that looks like text and can be edited in place: Enter confirms it, Escape restores it, arrow keys count.

import { type Signal, useSignal } from "@preact/signals";
import { plain } from "../core/format";

interface Props {
  /** The current value; a dash is shown where it is no number. */
  readonly value: number | undefined;
  readonly before?: string;
  readonly after?: string;
  /** What the number is, in a sentence. */
  readonly meaning?: string;
  readonly whole?: boolean;
  readonly min: number;
  readonly max: number;
  readonly fixed: boolean;
  /** Takes the message about an invalid number; empty when there is none. */
  readonly problem: Signal<string>;
  readonly change: (value: number) => void;
  /** Called when Enter is pressed in a field with a valid number. */
  readonly start: () => void;
}

export function NumberField({ value, before, after, meaning, whole, min, max, fixed, problem, change, start }: Props) {
  const label = before ?? after ?? "Number";
  const draft = useSignal<string | null>(null);
  const shown = draft.value ?? (value === undefined ? "–" : plain(value));

  const parse = (text: string): number | null => {
    const n = Number(text.trim().replace(",", "."));
    const valid = text.trim() !== "" && Number.isFinite(n) && n >= min && n <= max && (!whole || Number.isInteger(n));
    return valid ? n : null;
  };
  const invalid = draft.value !== null && parse(draft.value) === null;

  const commit = (): boolean => {
    if (draft.value === null) return true;
    const n = parse(draft.value);
    if (n === null) {
      const range = max < 1e6 ? `from ${min} to ${max}` : `of at least ${min}`;
      problem.value = `${label} is “${draft.value.trim()}”: it must be a ${whole ? "whole number" : "number"} ${range}.`;
      return false;
    }
    if (n !== value) change(n);
    draft.value = null;
    problem.value = "";
    return true;
  };

  const cancel = () => {
    draft.value = null;
    problem.value = "";
  };

  return (
    <label class="dv-number" data-fixed={fixed || undefined} data-tip={meaning}>
      {before ? <span>{before}</span> : null}
      <input
        type="text"
        inputMode="decimal"
        autocomplete="off"
        aria-label={label}
        aria-description={meaning}
        aria-invalid={invalid}
        disabled={fixed}
        style={{ width: `${Math.max(1, shown.length) + 0.4}ch` }}
        value={shown}
        onInput={(event) => {
          draft.value = event.currentTarget.value;
        }}
        onFocus={(event) => event.currentTarget.select()}
        onBlur={commit}
        onKeyDown={(event) => {
          if (event.key === "Enter") {
            if (commit()) start();
          } else if (event.key === "Escape") {
            cancel();
            event.currentTarget.blur();
          } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
            const by = (whole ? 1 : 0.5) * (event.shiftKey ? 10 : 1) * (event.key === "ArrowUp" ? 1 : -1);
            const from = parse(shown);
            if (from !== null) draft.value = plain(Math.min(max, Math.max(min, from + by)));
            event.preventDefault();
          }
        }}
      />
      {after ? <span>{after}</span> : null}
    </label>
  );
}
