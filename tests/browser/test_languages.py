"""The page in the browser's language: Indonesian, English, and English where it speaks neither."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.browser

ENGLISH = {
    "title": "Chest CT + X-ray",
    "analyse": "Analyse",
    "clear": "Clear",
    "tabs": ["Study", "Many studies", "Test it here first", "Model"],
    "banner": "Research use only, not for diagnosis.",
    "empty": "No study analysed yet",
    "ready": "Network ready: fake-for-tests",
}
INDONESIAN = {
    "title": "CT + rontgen toraks",
    "analyse": "Analisis",
    "clear": "Kosongkan",
    "tabs": ["Pemeriksaan", "Banyak studi", "Uji di sini dahulu", "Model"],
    "banner": "Hanya untuk penelitian, bukan untuk diagnosis.",
    "empty": "Belum ada pemeriksaan yang dianalisis",
    "ready": "Model siap: fake-for-tests",
}


def put(page, modality: str, path) -> None:
    """Choose a file for a slot and wait until it has arrived."""
    page.set_input_files(f".mm-slot[data-modality={modality}] .mm-slot-input", str(path))
    page.wait_for_selector(f".mm-slot[data-modality={modality}]:is([data-state=ready], [data-state=broken])")


def analyse(page) -> str:
    """Press the button; the result panel's text."""
    before = page.evaluate("window.covidMM.finishes")
    page.click("#mm-analyse")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    page.wait_for_selector(".mm-answer, .mm-error")
    return page.inner_text("#mm-result")


@pytest.mark.parametrize(
    ("locale", "words", "language"),
    [("id-ID", INDONESIAN, "id"), ("en-US", ENGLISH, "en"), ("fr-FR", ENGLISH, "en")],
)
def test_the_page_opens_in_the_browsers_language_else_in_english(open_page, locale, words, language):
    page = open_page(locale=locale)
    page.wait_for_selector(".mm-state[data-state=ready]")
    assert page.inner_text("h1") == words["title"]
    assert page.inner_text("#mm-analyse") == words["analyse"]
    assert page.inner_text("#mm-clear") == words["clear"]
    assert page.get_by_role("tab").all_inner_texts() == words["tabs"]
    assert page.inner_text("#mm-result .mm-banner") == words["banner"]
    assert page.inner_text("#mm-result h2") == words["empty"]
    assert page.inner_text(".mm-state") == words["ready"]
    assert page.title().startswith(words["title"])
    assert page.get_attribute("#mm-tabs", "lang") == language  # what a screen reader speaks
    assert page.get_attribute("#mm-header", "lang") == language
    if locale != "fr-FR":
        assert page.get_attribute("html", "lang") == language


def test_an_answer_its_heatmaps_and_its_report_are_in_indonesian(revisit, studies, tmp_path):
    page = revisit(locale="id-ID")
    put(page, "ct", studies["bright"])
    put(page, "xray", studies["black"])
    text = analyse(page)
    for words in (
        "Jawaban dari gabungan CT dan rontgen",
        "Probabilitas terkalibrasi Pneumonia COVID-19",
        "CT saja menyatakan Pneumonia COVID-19, rontgen saja Normal.",
        "Ambang keputusan: positif mulai dari 50 %.",
        "sensitivitas",
        "spesifisitas",
        "Tidak ada bukti positif untuk",
    ):
        assert words in text
    assert page.inner_text("#mm-result .mm-sr").startswith("Jawaban: ")
    page.click(".mm-operating summary")
    page.wait_for_function(
        "document.querySelector('.mm-operating-text').textContent.startsWith('Dengan ambang')"
    )

    before = page.evaluate("window.covidMM.finishes")
    page.select_option(".mm-heat-method", "layer_cam")
    page.wait_for_function("before => window.covidMM.finishes > before", arg=before)
    assert "relatif terhadap nilai tertinggi peta ini" in page.inner_text(".mm-scale small >> nth=0")

    reader = pytest.importorskip("pypdf")
    with page.expect_download() as coming:
        page.click('.mm-report-button[data-format="pdf"]')
    coming.value.save_as(tmp_path / "report.pdf")
    report = reader.PdfReader(tmp_path / "report.pdf")
    printed = " ".join(" ".join(sheet.extract_text() for sheet in report.pages).split())
    for words in (
        "Hanya untuk penelitian, bukan untuk diagnosis. Bukan alat kesehatan.",
        "sensitivitas",
        "Ambang",
    ):
        assert words in printed
    assert "Sensitivity" not in printed

    with page.expect_download() as coming:
        page.click('.mm-report-button[data-format="json"]')
    coming.value.save_as(tmp_path / "report.json")
    result = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert result["research_use"] == "Research use only, not for diagnosis."  # for programs: English


def test_refusals_are_in_indonesian_on_both_sides_of_the_wire(revisit, studies):
    page = revisit(locale="id-ID")
    assert "Tambahkan irisan CT, foto rontgen toraks, atau keduanya; lalu analisis." in analyse(page)
    put(page, "ct", studies["damaged"])
    assert "Irisan CT: gambar terpotong" in analyse(page)
    page.set_input_files(".mm-slot[data-modality=ct] .mm-slot-input", str(studies["large"]))
    page.wait_for_selector(".mm-slot[data-modality=ct] .mm-slot-note:has-text('lebih besar dari 20 MB')")
    page.click("#mm-clear")
    page.wait_for_selector("#mm-result .mm-empty:has-text('Belum ada pemeriksaan')")


def test_many_studies_are_paired_and_answered_in_indonesian(revisit, studies, tmp_path):
    page = revisit(locale="id-ID")
    page.get_by_role("tab", name="Banyak studi").click()
    page.wait_for_function("window.covidMM.batch?.phase === 'empty'")
    for name, source in (("s1_ct.png", "ct0"), ("s1_xray.png", "xray0"), ("s2_ct.png", "ct1")):
        (tmp_path / name).write_bytes(studies[source].read_bytes())
    page.set_input_files(".mm-batch-input", sorted(str(path) for path in tmp_path.iterdir()))
    page.wait_for_selector(".mm-batch-paired")
    assert (
        page.inner_text(".mm-batch-summary") == "2 pemeriksaan: 1 dengan kedua gambar, 1 dengan satu gambar."
    )
    assert "Tidak ada rontgen: dijawab dari CT saja" in page.inner_text(".mm-batch-paired")
    page.click("#mm-batch-run")
    page.wait_for_selector(".mm-batch-message:has-text('Selesai. Berkas telah dihapus dari server.')")
    assert (
        page.inner_text(".mm-batch-count")
        == "2 dari 2 pemeriksaan selesai: 2 dijawab, 0 tidak dapat ditentukan, 0 gagal"
    )
    assert "Ambang keputusan 50 %" in page.inner_text(".mm-batch-table caption")


def test_the_model_card_and_the_slots_at_390_pixels_are_in_indonesian(open_page):
    page = open_page(locale="id-ID", width=390)
    assert page.locator(".mm-slot-title").all_inner_texts()[:2] == ["Irisan CT", "Rontgen toraks"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("tab", name="Model").click()
    page.wait_for_selector("#mm-card:has-text('Diukur di dalam koleksi pelatihan')")
    assert "Bukan alat kesehatan." in page.inner_text("#mm-card")


def test_nothing_is_drawn_in_english_first(browser, server):
    context = browser.new_context(locale="id-ID")
    page = context.new_page()
    page.add_init_script(
        """
        window.seen = [];
        new MutationObserver(() => {
          for (const name of ['h1', '#mm-analyse', '#mm-result h2', '.mm-state']) {
            const text = document.querySelector(name)?.textContent.trim();
            if (text && !window.seen.includes(text)) window.seen.push(text);
          }
        }).observe(document, { childList: true, subtree: true, characterData: true });
        """
    )
    page.goto(server.url)
    page.wait_for_selector(".mm-state[data-state=ready]")
    seen = set(page.evaluate("window.seen"))
    context.close()
    assert {"Analisis", "CT + rontgen toraks"} <= seen
    assert seen & {"Analyse", "Chest CT + X-ray", "No study analysed yet", "Loading the network…"} == set()
    assert not any(text.startswith("__i18n__") for text in seen)
