// Readers validate values from outside: each returns the value with its type, or throws ProtocolError naming the field.

/** Thrown for a message that violates the protocol. */
export class ProtocolError extends Error {}

/** Reads a value that must be of one kind; `what` names it in the error. */
export type Reader<T> = (value: unknown, what: string) => T;
type Read<Shape> = { readonly [Name in keyof Shape]: Shape[Name] extends Reader<infer T> ? T : never };

export function fail(what: string, problem: unknown): never {
  throw new ProtocolError(`${what}: ${problem}`);
}

export const list: Reader<unknown[]> = (value, what) => (Array.isArray(value) ? value : fail(what, "no list"));
export const text: Reader<string> = (value, what) => (typeof value === "string" ? value : fail(what, "no string"));
export const flag: Reader<boolean> = (value) => value === true;
export const number: Reader<number> = (value, what) =>
  typeof value === "number" && Number.isFinite(value) ? value : fail(what, "no number");
export const whole: Reader<number> = (value, what) =>
  Number.isInteger(value) && (value as number) >= 0 ? (value as number) : fail(what, "no index");

export function or<T, Other>(read: Reader<T>, other: Other): Reader<T | Other> {
  return (value, what) => (value === null || value === undefined ? other : read(value, what));
}

export function maybe<T>(read: Reader<T>): Reader<T | null> {
  return or(read, null);
}

export function listOf<T>(read: Reader<T>): Reader<T[]> {
  return (value, what) => list(value, what).map((entry) => read(entry, what));
}

export function oneOf<T extends string>(...allowed: readonly T[]): Reader<T> {
  return (value, what) => allowed.find((entry) => entry === value) ?? fail(what, value);
}

/** An object whose fields, whatever their names, are all of one kind. */
export function recordOf<T>(read: Reader<T>): Reader<Record<string, T>> {
  return (value, what) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) fail(what, "no object");
    return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, read(entry, name)]));
  };
}

/** An object with these fields; other fields are ignored. */
export function object<Shape extends Record<string, Reader<unknown>>>(shape: Shape): Reader<Read<Shape>> {
  return (value, what) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) fail(what, "no object");
    const fields = value as Record<string, unknown>;
    return Object.fromEntries(
      Object.entries(shape).map(([name, reader]) => [name, reader(fields[name], name)]),
    ) as Read<Shape>;
  };
}

export function pair<T>(read: Reader<T>): Reader<[T, T]> {
  return (value, what) => {
    const [a, b] = list(value, what);
    return [read(a, what), read(b, what)];
  };
}

/** The bytes of a buffer, which may be a view into a larger message. */
export function bytes(buffer: ArrayBufferView | undefined, what: string): Uint8Array {
  if (buffer === undefined) fail(what, "buffer missing");
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}
