// A button that does not submit a form.

import type { JSX } from "preact";

export function Button(props: JSX.IntrinsicElements["button"]) {
  return <button type="button" {...props} />;
}
