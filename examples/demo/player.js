// Shows frames at a steady rate. They come in batches, one for each latent frame, and wait here until it is their time, so that a late
// batch is not seen. Runs once in the component of the page that holds the video: `element`, `props` and `watch` are gradio's.
const picture = element.querySelector("img");
const caption = element.querySelector("figcaption");
const waiting = [];
let period = 0; // milliseconds of a frame
let due = 0; // when the next frame is to be seen
let shown = 0;

watch("value", () => {
  const batch = props.value;
  if (batch.first === 0) {
    // A new video; one without frames when it was stopped.
    waiting.length = 0;
    shown = 0;
  }
  period = 1000 / batch.fps;
  waiting.push(...batch.frames);
  // A hidden tab shows nothing; seen again, it goes on with what is new.
  if (waiting.length > 4 * batch.fps) waiting.splice(0, waiting.length - batch.fps);
});

function show(now) {
  requestAnimationFrame(show);
  if (waiting.length === 0 || now < due) return;
  due = now - due > period ? now + period : due + period; // after a pause the clock starts over
  picture.src = waiting.shift();
  shown += 1;
  caption.textContent = `frame ${shown}`;
}
requestAnimationFrame(show);
