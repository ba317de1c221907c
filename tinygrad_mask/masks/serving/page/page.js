// The entrance page: a camera or a photograph, boxes over it, and one large word at the top.

import { Door, answer as answerOf, count } from "./door.js";
import { drawFaces, SYMBOLS } from "./drawing.js";
import { EngineError, ServerEngine } from "./server_engine.js";
import { Tracker } from "./tracking.js";
import { fill, preferred, speak } from "./words.js";

const FRAME_SIDE = 640; // pixels of the longer side of the frames that are looked at
const SMALLEST_SHOWN = 640; // of a photograph: smaller ones have no room for captions
const LARGEST_SHOWN = 1280;
const ALARMS = ["improper", "none"];

const $ = (id) => document.getElementById(id);

let words;
let engine;
let sensitivities;
let tracker = new Tracker();
let stream = null;
let shown = null; // draws the last picture again, in another language for example
const door = new Door();
const kept = {
  get: (name, otherwise) => JSON.parse(sessionStorage.getItem(name) ?? JSON.stringify(otherwise)),
  set: (name, value) => sessionStorage.setItem(name, JSON.stringify(value)),
};

// --- what is said ----------------------------------------------------------------------------------

function threshold() {
  return sensitivities.alarms[$("sensitivity").value]?.threshold ?? null;
}

function showState(state) {
  const before = $("door").dataset.state;
  $("door").dataset.state = state;
  $("symbol-lines").setAttribute("d", SYMBOLS[state]);
  // A live region speaks when its text changes, and only then.
  if ($("state").textContent !== words.states[state]) $("state").textContent = words.states[state];
  if (state !== before && ALARMS.includes(state) && $("sound").checked) beep();
}

function showCounts() {
  const counts = count(tracker.seen(), threshold());
  $("counts").replaceChildren(...Object.entries(counts).map(([name, number]) => {
    const group = document.createElement("div");
    const term = document.createElement("dt");
    const value = document.createElement("dd");
    term.textContent = words.labels[name];
    value.textContent = number;
    value.dataset.answer = name;
    group.append(value, term);
    return group;
  }));
}

function notice(name, detail = "") {
  const text = name ? fill(words[name], { error: detail }) : "";
  if ($("notice").textContent !== text) $("notice").textContent = text;
  $("notice").dataset.name = name ?? "";
  $("notice").hidden = !name;
}

function faceText(face, number) {
  const percent = Math.round(100 * face.probability);
  return fill(words.face, { number, answer: words.labels[face.answer], percent });
}

function judged(faces) {
  const limit = threshold();
  return faces.map((face) => ({ ...face, answer: answerOf({ ...face, size: undefined }, limit) }));
}

function beep() {
  const audio = new AudioContext();
  const tone = audio.createOscillator();
  const volume = audio.createGain();
  volume.gain.setValueAtTime(0.2, audio.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.4);
  tone.connect(volume).connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + 0.4);
  tone.onended = () => audio.close();
}

// --- pictures --------------------------------------------------------------------------------------

/** Draw a picture and the faces in it; `picture` is what a canvas can draw. */
function show(picture, width, height, faces, mirrored) {
  const canvas = $("drawing");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(picture, 0, 0, width, height);
  context.setTransform(1, 0, 0, 1, 0, 0);
  drawFaces(canvas, faces, mirrored);
  $("view").classList.remove("empty");
  canvas.setAttribute("aria-label", found(faces.length));
  canvas.dataset.faces = JSON.stringify(faces.map(({ box, answer, person }) => ({ box, answer, person })));
}

function found(number) {
  if (number === 0) return words["no face found"];
  return number === 1 ? words["one face found"] : fill(words["faces found"], { count: number });
}

/** Show a frame of a camera, follow its persons, and say what the door says. */
function showFrame(picture, answer, mirrored) {
  const faces = judged(tracker.update(answer.faces));
  const drawn = faces.map((face) => ({ ...face, text: `${face.person} ${words.labels[face.answer]}` }));
  show(picture, answer.width, answer.height, drawn, mirrored);
  showState(door.update(faces.map((face) => face.answer)));
  showCounts();
}

async function lookAtPhotograph(blob) {
  stopCamera();
  notice(null);
  door.reset();
  $("faces").replaceChildren();
  try {
    const answer = await engine.detectPhotograph(blob);
    const picture = await createImageBitmap(blob);
    shown = () => {
      const faces = judged(answer.faces);
      const longer = Math.max(answer.width, answer.height);
      const scale = Math.min(Math.max(longer, SMALLEST_SHOWN), LARGEST_SHOWN) / longer;
      const drawn = faces.map((face, k) => ({
        ...face, box: face.box.map((edge) => edge * scale), text: `${k + 1} ${words.labels[face.answer]}`,
      }));
      const [width, height] = [answer.width, answer.height].map((n) => Math.round(n * scale));
      show(picture, width, height, drawn, false);
      for (let k = 0; k < door.agreeing; k += 1) door.update(faces.map((face) => face.answer));
      showState(door.state);
      const lines = faces.map((face, k) => faceText(face, k + 1));
      listFaces(lines.length ? lines : [found(0)]);
    };
    shown();
  } catch (error) {
    showState("starting");
    if (error instanceof EngineError) notice(error.words, error.detail);
    else notice("refused", error.message);
  }
}

function listFaces(lines) {
  $("faces").replaceChildren(...lines.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
}

// --- the browser's camera --------------------------------------------------------------------------

async function startCamera() {
  notice(null);
  shown = null;
  listFaces([]);
  if (!navigator.mediaDevices) {
    notice("camera insecure");
    return;
  }
  const camera = $("camera").value;
  const video = { width: { ideal: FRAME_SIDE }, height: { ideal: 480 } };
  video[camera ? "deviceId" : "facingMode"] = camera ? { exact: camera } : { ideal: "user" };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    if (["NotAllowedError", "SecurityError"].includes(error.name)) notice("camera denied");
    else if (["NotFoundError", "OverconstrainedError"].includes(error.name)) notice("camera missing");
    else notice("camera failed", error.message);
    return;
  }
  $("start").hidden = true;
  $("stop").hidden = false;
  $("video").srcObject = stream;
  stream.getVideoTracks()[0].onended = () => {
    stopCamera();
    notice("camera missing");
  };
  await $("video").play();
  listCameras();
  look(stream);
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("video").srcObject = null;
  $("start").hidden = engine.watched;
  $("stop").hidden = true;
  engine.stop();
  door.reset();
  showState("starting");
}

/** Look at the newest frame, wait for its answer, and again; so nothing ever queues. */
async function look(own) {
  const canvas = document.createElement("canvas");
  while (stream === own) {
    const video = $("video");
    const scale = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight, 1));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    if (canvas.width && canvas.height) {
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      try {
        const answer = await engine.detectFrame(canvas);
        if (stream !== own) return;
        notice(null);
        if (answer) showFrame(canvas, answer, $("mirror").checked);
      } catch (error) {
        if (stream !== own) return;
        if (!(error instanceof EngineError)) throw error;
        notice(error.words, error.detail);
        door.reset();
        showState("starting");
        if (error.words === "token") {
          stopCamera();
          return;
        }
      }
    }
    await new Promise(requestAnimationFrame);
  }
}

async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const chosen = $("camera").value;
  const cameras = devices.filter((device) => device.kind === "videoinput" && device.deviceId);
  $("camera").replaceChildren(
    new Option(words["default camera"], ""),
    ...cameras.map((device, k) => new Option(device.label || `${words.camera} ${k + 1}`, device.deviceId)),
  );
  $("camera").value = cameras.some((device) => device.deviceId === chosen) ? chosen : "";
}

// --- settings --------------------------------------------------------------------------------------

async function setLanguage(language) {
  words = await speak(language);
  $("language").value = language;
  $("privacy").textContent = words.privacy;
  const chosen = $("sensitivity").value || kept.get("sensitivity", "balanced");
  $("sensitivity").replaceChildren(
    ...Object.entries(words.sensitivities).map(([name, text]) => new Option(text, name)),
  );
  $("sensitivity").value = chosen;
  $("camera").options[0] ??= new Option("", "");
  $("camera").options[0].text = words["default camera"];
  explainSensitivity();
  showState(door.state);
  showCounts();
  const { name } = $("notice").dataset;
  if (name && !words[name].includes("{")) notice(name);
  shown?.();
}

function explainSensitivity() {
  const alarm = sensitivities.alarms[$("sensitivity").value];
  $("sensitivity-help").textContent = alarm
    ? fill(words["sensitivity help"], { ...sensitivities, ...alarm })
    : words["sensitivity balanced help"];
}

function connectControls() {
  $("start").onclick = startCamera;
  $("stop").onclick = stopCamera;
  $("choose").onclick = () => $("file").click();
  $("file").onchange = () => {
    if ($("file").files.length) lookAtPhotograph($("file").files[0]);
    $("file").value = "";
  };
  $("reset").onclick = () => {
    tracker = new Tracker();
    showCounts();
  };
  $("open-settings").onclick = () => {
    $("settings").hidden = !$("settings").hidden;
    $("open-settings").setAttribute("aria-expanded", String(!$("settings").hidden));
    if (!$("settings").hidden) $("sensitivity").focus();
  };
  $("sensitivity").onchange = () => {
    kept.set("sensitivity", $("sensitivity").value);
    explainSensitivity();
    showCounts();
    shown?.();
  };
  $("camera").onchange = () => {
    if (!stream) return;
    stopCamera();
    startCamera();
  };
  $("language").onchange = () => {
    kept.set("language", $("language").value);
    setLanguage($("language").value);
  };
  for (const name of ["mirror", "sound"]) {
    $(name).checked = kept.get(name, name === "mirror");
    $(name).onchange = () => kept.set(name, $(name).checked);
  }
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("view").classList.add("dropping");
  });
  document.addEventListener("dragleave", () => $("view").classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("view").classList.remove("dropping");
    if (event.dataTransfer.files.length) lookAtPhotograph(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const picture = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
    if (picture) lookAtPhotograph(picture);
  });
}

// --- start -----------------------------------------------------------------------------------------

function createEngine() {
  // What follows the # never reaches a server or its log.
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) {
    kept.set("token", token);
    history.replaceState(null, "", location.pathname);
  }
  return new ServerEngine(kept.get("token", null));
}

async function showServersCamera() {
  engine.watched = true;
  $("start").hidden = true;
  engine.watch(async (blob, answer) => {
    notice(null);
    const picture = await createImageBitmap(blob);
    showFrame(picture, answer, false);
    picture.close();
  }, (error) => {
    notice(error.words, error.detail);
    door.reset();
    showState("starting");
  });
}

$("view").classList.add("empty");
sensitivities = await (await fetch("sensitivity.json")).json();
connectControls();
await setLanguage(kept.get("language", null) ?? preferred(navigator.languages));
engine = createEngine();
engine.watched = false;
if ((await (await fetch("api/camera.json")).json()).camera) showServersCamera();
document.body.dataset.ready = "true";
