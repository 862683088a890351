// An image file of the user as a message can carry it: no larger than a model needs, as base64.

/** Pixels of the shorter side; the kernel crops the image to the size that its model makes. */
const SHORTER = 1024;
const LONGER = 2048;
/** Up to here an image is sent without loss. */
const LOSSLESS = 512;
/** Characters of base64: a message of the page has at most a million. */
const MOST = 900_000;
const QUALITIES = [0.92, 0.8, 0.6];

/** The first image among the files that were dropped, pasted or chosen. */
export function imageIn(files: FileList | null | undefined): File | null {
  return [...(files ?? [])].find(({ type }) => type.startsWith("image/")) ?? null;
}

/** Throws an error with a sentence for the user where the file cannot be used. */
export async function encode(file: Blob): Promise<string> {
  const image = await createImageBitmap(file).catch(() => {
    throw new Error("This file is no image that the browser can read: use a PNG, a JPEG or a WebP.");
  });
  const { width, height } = image;
  const scale = Math.min(1, SHORTER / Math.min(width, height), LONGER / Math.max(width, height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  const context = canvas.getContext("2d");
  if (!context) throw new Error("This browser gives no canvas to read the image with.");
  context.imageSmoothingQuality = "high";
  // What is transparent becomes white, as on a page.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  image.close();
  const isSmall = Math.max(canvas.width, canvas.height) <= LOSSLESS;
  const kinds = [
    ...(isSmall ? ([["image/png", undefined]] as const) : []),
    ...QUALITIES.map((q) => ["image/jpeg", q] as const),
  ];
  for (const [kind, quality] of kinds) {
    const data = canvas.toDataURL(kind, quality).split(",")[1] ?? "";
    if (data.length <= MOST) return data;
  }
  throw new Error("This image is too large to send to the kernel, even compressed: make it smaller.");
}
