// A button that does not submit a form.

import type { Signal } from "@preact/signals";
import type { JSX } from "preact";

export function Button(props: JSX.IntrinsicElements["button"]) {
  return <button type="button" {...props} />;
}

/** The properties of a button that switches a state on and off. */
export function toggle(state: Signal<boolean>) {
  return {
    "aria-pressed": state.value,
    onClick: () => {
      state.value = !state.value;
    },
  };
}
