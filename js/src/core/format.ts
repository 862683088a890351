// Numbers as text.

/** Two significant digits, without an exponent as long as that stays short. */
export function value(n: number): string {
  return digits(n).replace("-", "−");
}

/** The two ends of a range in one notation: with the digits of the larger one, and as many more as it takes to distinguish them. */
export function ends([lo, hi]: readonly [lo: number, hi: number]): readonly [string, string] {
  const most = Math.max(Math.abs(lo), Math.abs(hi));
  const span = hi - lo || most;
  if (most === 0 || !Number.isFinite(lo) || !Number.isFinite(hi) || most >= 1e6) return [value(lo), value(hi)];
  const usual = most >= 100 ? 0 : most >= 10 ? 1 : Math.max(2, 1 - Math.floor(Math.log10(most)));
  const places = Math.max(usual, -Math.floor(Math.log10(span)));
  // Below a thousandth both have the same power of ten.
  const isSmall = most < 0.001;
  const text = (n: number) => {
    const shown = isSmall ? (n * 10 ** places).toFixed(0) : n.toFixed(places);
    return Number(shown) === 0 ? "0" : `${shown.replace("-", "−")}${isSmall ? `e−${places}` : ""}`;
  };
  return [text(lo), text(hi)];
}

function digits(n: number): string {
  if (n === 0) return "0";
  const size = Math.abs(n);
  if (size === Number.POSITIVE_INFINITY) return n < 0 ? "-∞" : "∞";
  if (size >= 1e6) return n.toExponential(1).replace("e+", "e");
  if (size >= 100) return n.toFixed(0);
  if (size >= 10) return n.toFixed(1);
  if (size >= 0.1) return n.toFixed(2);
  if (size >= 0.001) return n.toFixed(Math.min(5, 1 - Math.floor(Math.log10(size))));
  return n.toExponential(0).replace("e-", "e−");
}

/** Stands for the value of a missing map, which is not zero. */
export const NOT_RECORDED = "not recorded";

export function score(n: number | null | undefined): string {
  return n === null || n === undefined ? "–" : n.toFixed(2).replace("-", "−");
}

export function seconds(n: number): string {
  if (n < 9.95) return `${n.toFixed(1)} s`;
  if (n < 59.5) return `${Math.round(n)} s`;
  const minutes = Math.floor(Math.round(n) / 60);
  return `${minutes} min ${Math.round(n) % 60} s`;
}

export function plain(n: number): string {
  return Number.isInteger(n) ? String(n) : String(Number(n.toFixed(2)));
}
