// A number that reads like text and can be edited in place: Enter runs with it, Esc takes it back, arrows count.

import { useSignal } from "@preact/signals";
import type { Context } from "../core/context";
import { plain } from "../core/format";

interface Props {
  readonly context: Context;
  readonly trait: "seed" | "steps" | "guidance_scale" | "schedule_strength";
  readonly before?: string;
  readonly after?: string;
  readonly whole?: boolean;
  readonly min: number;
  readonly max: number;
  readonly fixed: boolean;
  readonly start: () => void;
}

export function NumberField({ context, trait, before, after, whole, min, max, fixed, start }: Props) {
  const { session, problem } = context;
  const label = before ?? after ?? trait;
  const draft = useSignal<string | null>(null);
  const kept = session.traits[trait].value;
  const shown = draft.value ?? (typeof kept === "number" ? plain(kept) : "–");

  const read = (text: string): number | null => {
    const n = Number(text.trim().replace(",", "."));
    const good = text.trim() !== "" && Number.isFinite(n) && n >= min && n <= max && (!whole || Number.isInteger(n));
    return good ? n : null;
  };
  const invalid = draft.value !== null && read(draft.value) === null;

  const commit = (): boolean => {
    if (draft.value === null) return true;
    const n = read(draft.value);
    if (n === null) {
      const most = max < 1e6 ? `from ${min} to ${max}` : `of at least ${min}`;
      problem.value = `${label} is “${draft.value.trim()}”: it must be a ${whole ? "whole number" : "number"} ${most}.`;
      return false;
    }
    if (n !== kept) session.set({ [trait]: n });
    draft.value = null;
    problem.value = "";
    return true;
  };

  const cancel = () => {
    draft.value = null;
    problem.value = "";
  };

  return (
    <label class="dv-number" data-fixed={fixed || undefined}>
      {before ? <span>{before}</span> : null}
      <input
        type="text"
        inputMode="decimal"
        autocomplete="off"
        aria-label={label}
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
            const step = (whole ? 1 : 0.5) * (event.shiftKey ? 10 : 1) * (event.key === "ArrowUp" ? 1 : -1);
            const from = read(shown);
            if (from !== null) draft.value = plain(Math.min(max, Math.max(min, from + step)));
            event.preventDefault();
          }
        }}
      />
      {after ? <span>{after}</span> : null}
    </label>
  );
}
