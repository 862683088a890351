export { attachTour as attach } from "../../late/TourCards";
export { Help as View } from "./Help";
