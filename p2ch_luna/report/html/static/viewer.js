"use strict";
// The slice viewer: NiiVue with the windows, keys and conventions of a radiologist. Places are LPS mm outside of it.

const WINDOWS = { lung: [-1350, 150], mediastinum: [-160, 240] };
const PLANES = {
  axial: { type: 0, letters: { left: "R", right: "L", top: "A", bottom: "P" } },
  coronal: { type: 1, letters: { left: "R", right: "L", top: "H", bottom: "F" } },
  sagittal: { type: 2, letters: { left: "A", right: "P", top: "H", bottom: "F" } },
};
// Left, top, width and height of each plane, as parts of the whole.
const LAYOUTS = {
  axial: [["axial", [0, 0, 1, 1]]],
  wide: [["axial", [0, 0, 0.6, 1]], ["coronal", [0.6, 0, 0.4, 0.5]], ["sagittal", [0.6, 0.5, 0.4, 0.5]]],
  tall: [["axial", [0, 0, 1, 0.6]], ["coronal", [0, 0.6, 0.5, 0.4]], ["sagittal", [0.5, 0.6, 0.5, 0.4]]],
};
const MASK_COLOUR = [255, 176, 0];
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const CROSSHAIR_MM = 1;
const NIIVUE_OPTIONS = {
  logLevel: "silent",
  loadingText: "",
  backColor: [0, 0, 0, 1],
  crosshairColor: [0.36, 0.78, 0.95, 0.75],
  crosshairWidth: CROSSHAIR_MM,
  crosshairWidthUnit: "mm",
  show3Dcrosshair: false,
  isRadiologicalConvention: true,
  sagittalNoseLeft: true,
  isOrientationTextVisible: false, // the page's own letters are those of the key images
  multiplanarShowRender: 0,
  dragAndDropEnabled: false,
  dragMode: 4, // right button: zoom; middle button: move
  clipPlaneHotKey: "",
  cycleClipPlaneHotKey: "",
  viewModeHotKey: "",
};

// LPS to RAS and back.
function turned([x, y, z]) {
  return [-x, -y, z];
}

function caption(plane, [left, top, width, height]) {
  const frame = document.createElement("div");
  const percent = (share) => `${100 * share}%`;
  Object.assign(frame.style, {
    left: percent(left), top: percent(top), width: percent(width), height: percent(height),
  });
  const texts = { name: plane, ...PLANES[plane].letters };
  for (const [place, text] of Object.entries(texts)) {
    const span = document.createElement("span");
    span.className = place;
    span.textContent = text;
    frame.append(span);
  }
  return frame;
}

function maskColours() {
  const labels = [...Array(256).keys()];
  const [R, G, B] = MASK_COLOUR.map((value) => labels.map(() => value));
  return { R, G, B, A: labels.map((label) => (label ? 255 : 0)), I: labels };
}

class Viewer {
  constructor(facts, canvas, captions) {
    this.facts = facts;
    this.canvas = canvas;
    this.captions = captions;
    this.views = "three";
    this.window = "lung";
    this.maskIsShown = true;
    this.maskOpacity = 0.25;
    this.onMove = () => {};
  }

  async open(jpegs, onProgress) {
    const volume = this.facts.volume;
    const ctFile = await unpackCt(volume, jpegs, onProgress);
    this.nv = new niivue.Niivue(NIIVUE_OPTIONS);
    await this.nv.attachToCanvas(this.canvas);
    this.nv.setDrawColormap(maskColours());
    const [black, white] = WINDOWS[this.window];
    this.nv.addVolume(await niivue.NVImage.new(ctFile, "ct.nii", "gray", 1, null, black, white));
    // As a drawing, not as a second volume: that would cost four times the memory, and seconds at each change.
    this.nv.createEmptyDrawing();
    this.drawMasks(volume);
    this.nv.refreshDrawing();
    this.nv.drawRimOpacity = 1;
    this.nv.setDrawOpacity(this.maskOpacity);
    this.nv.onLocationChange = (location) => this.tell(location);
    this.arrange();
    new ResizeObserver(() => this.arrange()).observe(this.canvas.parentElement);
    this.nv.createOnLocationChange();
  }

  get position() {
    return turned(this.nv.frac2mm(this.nv.scene.crosshairPos, 0, true));
  }

  // The crosshair leaves `gapMm` around the place free.
  jumpTo(lps, gapMm) {
    this.nv.opts.crosshairGap = gapMm / (CROSSHAIR_MM / 2);
    this.nv.scene.crosshairPos = this.nv.mm2frac(turned(lps), 0, true);
    this.zoomTo(this.zoom);
    this.nv.createOnLocationChange();
  }

  // The axial slice of the volume, from 0 at the feet.
  get level() {
    return this.nv.frac2vox(this.nv.scene.crosshairPos)[2];
  }

  // One slice up (1) or down (-1).
  step(slices) {
    this.nv.moveCrosshairInVox(0, 0, slices);
  }

  // The slice of the source that a place lies in, as its numbers go.
  sliceNumber(lps) {
    const { step, offset, numbers } = this.facts.slices;
    const index = Math.round(step[0] * lps[0] + step[1] * lps[1] + step[2] * lps[2] - offset);
    return numbers[Math.min(Math.max(index, 0), numbers.length - 1)];
  }

  tell(location) {
    const lps = turned(location.mm);
    this.onMove({
      lps,
      hu: location.values[0].value,
      label: this.labelAt(location.vox),
      slice: this.sliceNumber(lps),
      level: location.vox[2],
    });
  }

  drawMasks(volume) {
    const { permRAS, dimsRAS } = this.nv.volumes[0]; // NiiVue keeps drawings with its own axes
    const sizes = [...volume.shape].reverse();
    forEachMarked(volume.masks, (voxel, label) => {
      const ras = permRAS.map((axis) => {
        const at = voxel[Math.abs(axis) - 1];
        return axis > 0 ? at : sizes[Math.abs(axis) - 1] - 1 - at;
      });
      this.nv.drawBitmap[(ras[2] * dimsRAS[2] + ras[1]) * dimsRAS[1] + ras[0]] = label;
    });
  }

  // 0 outside of all findings.
  labelAt([x, y, z]) {
    const [, columns, rows] = this.nv.volumes[0].dimsRAS;
    return this.nv.drawBitmap[(z * rows + y) * columns + x];
  }

  setWindow(name) {
    this.window = name;
    [this.nv.volumes[0].cal_min, this.nv.volumes[0].cal_max] = WINDOWS[name];
    this.nv.updateGLVolume();
  }

  setMask(isShown, opacity = this.maskOpacity) {
    this.maskIsShown = isShown;
    this.maskOpacity = opacity;
    this.nv.setDrawOpacity(isShown ? opacity : 0);
  }

  setViews(views) {
    this.views = views;
    this.arrange();
  }

  // The planes where there is room for them, and their names and orientation letters above them.
  arrange() {
    const isWide = this.canvas.clientWidth > 1.4 * this.canvas.clientHeight;
    const tiles = LAYOUTS[this.views === "axial" ? "axial" : isWide ? "wide" : "tall"];
    this.nv.setCustomLayout(tiles.map(([plane, position]) => ({ sliceType: PLANES[plane].type, position })));
    this.captions.replaceChildren(...tiles.map(([plane, position]) => caption(plane, position)));
  }

  get zoom() {
    return this.nv.scene.pan2Dxyzmm[3];
  }

  // Enlarged about the crosshair, which is brought to the middle; 1 shows all.
  zoomTo(zoom) {
    const middle = this.nv.frac2mm([0.5, 0.5, 0.5]);
    const cross = this.nv.frac2mm(this.nv.scene.crosshairPos);
    const pan = zoom === 1 ? [0, 0, 0] : [0, 1, 2].map((k) => middle[k] - zoom * cross[k]);
    this.nv.setPan2Dxyzmm([...pan, zoom]);
  }

  zoomBy(steps) {
    const next = steps > 0 ? ZOOMS.find((zoom) => zoom > this.zoom + 0.01) : ZOOMS.findLast((zoom) => zoom < this.zoom - 0.01);
    if (next) this.zoomTo(next);
  }
}
