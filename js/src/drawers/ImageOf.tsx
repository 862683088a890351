// An encoded image as an element.

import { useLayoutEffect, useRef } from "../app/coreExports";

interface Props {
  readonly bytes: Uint8Array | null | undefined;
  /** Empty for an image that the text beside it describes. */
  readonly alt: string;
}

/** The image; an empty element of the same place without one. */
export function ImageOf({ bytes, alt }: Props) {
  const image = useRef<HTMLImageElement>(null);
  useLayoutEffect(() => {
    if (!bytes || !image.current) return;
    const url = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>], { type: "image/webp" }));
    image.current.src = url;
    return () => URL.revokeObjectURL(url);
  }, [bytes]);
  return bytes ? <img ref={image} alt={alt} /> : <i />;
}
