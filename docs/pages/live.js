// Loads the page that paints in place of a recorded run, once its button is pressed: not a byte of it before.
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-live]");
  const frame = button && document.getElementById(button.dataset.frame);
  if (!frame) return;
  frame.title = button.dataset.title;
  frame.src = button.dataset.live;
  frame.scrollIntoView({ block: "nearest" });
  frame.focus();
  const said = document.createElement("p");
  said.setAttribute("role", "status");
  said.textContent = "The model is in the page above: type a prompt there and press Enter.";
  button.replaceWith(said);
});
