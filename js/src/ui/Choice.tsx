// A group of buttons of which one is pressed.

import { Button } from "./Button";

interface Option<T extends string> {
  readonly value: T;
  readonly label: string;
  readonly title: string;
  readonly disabled?: boolean;
}

interface Props<T extends string> {
  readonly label: string;
  readonly options: readonly Option<T>[];
  readonly chosen: T;
  readonly choose: (value: T) => void;
}

export function Choice<T extends string>({ label, options, chosen, choose }: Props<T>) {
  return (
    <div class="dv-choice" role="group" aria-label={label}>
      {options.map(({ value, label, title, disabled }) => (
        <Button
          key={value}
          title={title}
          aria-pressed={value === chosen}
          disabled={disabled}
          onClick={() => choose(value)}
        >
          {label}
        </Button>
      ))}
    </div>
  );
}
