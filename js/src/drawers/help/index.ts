export { Help as View } from "./Help";
export { attachTour as attach } from "./TourCards";
