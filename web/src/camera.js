// The camera: its stream, which of several it is, and when its images stand still.
import { pixelsOf } from "./images.js";

const MAX_SIDE = 640;

function explain(error) {
  if (error.name === "NotAllowedError") {
    return "The camera is not allowed; allow it for this page in the browser's settings.";
  }
  if (["NotFoundError", "OverconstrainedError"].includes(error.name)) {
    return "There is no camera.";
  }
  if (error.name === "NotReadableError") return "The camera is in use by something else.";
  return error.message;
}

export class Camera {
  /**
   * A camera that is off. It is read from `video`, which isn't shown; `onGone` is called
   * where it ends by itself, as one that is unplugged does.
   */
  constructor(video, onGone) {
    this.video = video;
    this.onGone = onGone;
    this.stream = null;
    this.paused = false;
    this.attempt = 0;
  }

  get on() {
    return this.stream !== null;
  }

  get deviceId() {
    return this.stream?.getVideoTracks()[0]?.getSettings().deviceId;
  }

  /**
   * Starts it, or changes to another one.
   *
   * @returns whether it is on: not if it was stopped, or started again, meanwhile.
   * @throws Error with a sentence that says why there is none.
   */
  async start(deviceId) {
    this.stop();
    const mine = this.attempt;
    if (!navigator.mediaDevices) throw new Error("This page may not use a camera here.");
    const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
    try {
      const stream = await navigator.mediaDevices.getUserMedia({
        video: { width: { ideal: MAX_SIDE }, ...which },
        audio: false,
      });
      if (mine !== this.attempt) {
        stream.getTracks().forEach((track) => track.stop());
        return false;
      }
      this.stream = stream;
      stream.getVideoTracks()[0].addEventListener("ended", () => {
        if (stream === this.stream) this.onGone();
      });
      this.video.srcObject = stream;
      await this.video.play();
    } catch (error) {
      if (mine !== this.attempt) return false;
      this.stop();
      throw new Error(explain(error));
    }
    return mine === this.attempt;
  }

  stop() {
    this.attempt += 1;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
    this.paused = false;
  }

  /** Cameras of this machine as { id, name }; their names are known while one is on. */
  static async list() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices
      .filter(({ kind }) => kind === "videoinput")
      .map((device, i) => ({
        id: device.deviceId,
        name: device.label || `Camera ${i + 1}`,
      }));
  }

  /** The image now, as ImageData; null before the first. */
  grab() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, MAX_SIDE / Math.max(videoWidth, videoHeight, 1));
    const [width, height] = [videoWidth, videoHeight].map((x) => Math.round(scale * x));
    return width && height ? pixelsOf(this.video, width, height) : null;
  }
}
