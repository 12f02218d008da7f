"""The images of an answer: as given, below their heatmaps, with the lungs' outline over both."""

from __future__ import annotations

from html import escape

from covid_mm.config import MODALITIES
from covid_mm.ui.i18n.language import ENGLISH, Texts
from covid_mm.ui.pictures import LUNGS_OUTLINE, View, draw_outlines, make_colour_bar
from covid_mm.ui.study.analysis import Analysis
from covid_mm.ui.study.heatmaps import describe_map, render_choosers
from covid_mm.ui.study.images import SLOT_TITLES


def render_images(analysis: Analysis, texts: Texts = ENGLISH) -> str:
    """Heading, what can be chosen, and one panel per modality."""
    prediction = analysis.prediction
    views = "".join(
        _render_modality(analysis, modality, analysis.views[modality], texts)
        for modality in MODALITIES
        if modality in analysis.views
    )
    choosers = ""
    if prediction.heatmaps:
        choosers = render_choosers(prediction.heatmap_class, analysis.kind, texts)
    toggle = _render_toggle(texts) if any(draw_outlines(prediction, m) for m in analysis.views) else ""
    return f"""
<div class="mm-views">
  <div class="mm-views-head"><h2>{texts("Images and evidence")}</h2>{toggle}
    <button type="button" class="mm-enlarge"><span>{texts("Enlarge")}</span>
      <span>{texts("Make smaller")}</span></button></div>
  {choosers}
  {views}
</div>"""


def _render_toggle(texts: Texts) -> str:
    key = texts("solid: the lungs as found; dashed: the part that was read")
    return (
        '<label class="mm-outline-choice"><input type="checkbox" class="mm-outline-toggle" checked'
        f' aria-label="{escape(texts(LUNGS_OUTLINE))}">'
        f"<span>{escape(texts(LUNGS_OUTLINE))}</span> <small>{escape(key)}</small></label>"
    )


def _render_modality(analysis: Analysis, modality: str, view: View, texts: Texts) -> str:
    prediction, title = analysis.prediction, texts(SLOT_TITLES[modality])
    shape = f'style="--ratio:{view.width}/{view.height}"'
    size = f'width="{view.width}" height="{view.height}"'
    said = texts("{title}: outline of the lungs, and the part that was read", title=title)
    image = f'<img src="{view.url}" {size} alt="{escape(texts("{title}, as given", title=title))}">'
    image += draw_outlines(prediction, modality, said)
    given = f'<div class="mm-frame"><div class="mm-stack" {shape}>{image}</div></div>'
    if not prediction.heatmaps:
        return f"""
<section class="mm-view" data-modality="{modality}" aria-label="{escape(title)}">
  <h3>{escape(title)}</h3>
  <figure>{given}</figure>
</section>"""
    below = f'<img src="{view.url}" {size} alt="{escape(texts("{title}, below its map", title=title))}">'
    shown = describe_map(
        prediction.heatmaps.get(modality),
        title,
        prediction.heatmap_class,
        analysis.kind,
        texts,
        prediction.heat_location.get(modality),
    )
    whole = texts("of the {title}, at the image's own resolution", title=title)
    source = f'src="{shown["layer"]}"' if shown["layer"] else "hidden"
    return f"""
<section class="mm-view" data-modality="{modality}" aria-label="{escape(title)}">
  <h3>{escape(title)}</h3>
  <div class="mm-pair">
    <figure>{given}
      <figcaption>{texts("Image")}</figcaption></figure>
    <figure><div class="mm-frame"><div class="mm-stack" {shape}>{below}
      <img class="mm-layer" {source} alt="{escape(shown["alt"] or "")}">{draw_outlines(prediction, modality)}
      <p class="mm-none"{" hidden" if not shown["none"] else ""}>{escape(shown["none"] or "")}</p></div></div>
      <figcaption class="mm-map-caption">{escape(shown["caption"] or "")}</figcaption></figure>
  </div>
  <div class="mm-scale">
    <span>0</span><img src="{make_colour_bar()}"
      alt="{texts.attribute("Colour scale, from 0 dark to 1 bright")}"><span>1</span>
    <small>{escape(shown["legend"] or "")}</small>
  </div>
  <p class="mm-location">{escape(shown["location"] or "")}</p>
  <button type="button" class="mm-download" data-modality="{modality}"
    {"" if shown["layer"] else "hidden"}>{texts("Download this map")}<span
    class="mm-sr"> {escape(whole)}</span></button>
</section>"""
