"""The result goes back into the shop: in the form of the file that came out of it."""

from __future__ import annotations

import csv
import errno
import io
import re
import signal
import zipfile
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import unquote

import openpyxl
import pytest
from a_shop import HEADER, Shop
from killing import temporary_files
from test_jobs_killed import killed_before

from pipeline.csvs import workbook_writing

PUBLIC = "https://img.shop.example"
ADDRESS = rb"https://img\.shop\.example/jobs/half/[0-9]+/[^\s,;|\"<]+?\.jpg"
URL = rb"http://127\.0\.0\.1:[0-9]+/pic/[a-z0-9-]+"
SHEET = "xl/worksheets/sheet2.xml"

# As the systems export them; {u} is the address of a server.
EXPORTS = {
    "seed.csv": (
        "utf-8",
        "S. No.,Product Name,Input Image Urls\n"
        '1,SKU1,"{u}/seed-1,{u}/seed-2"\n2,SKU2,{u}/seed-3\n',
    ),
    "shopify.csv": (
        "utf-8",
        "Handle,Title,Body (HTML),Vendor,Variant SKU,Variant Price,Image Src,Image Position\n"
        'shirt,"Shirt ""Blue""","<p>one,\ntwo</p>",Acme,S-1,19.90,{u}/sf-1,1\n'
        "shirt,,,,S-2,19.90,{u}/sf-2,2\nshirt,,,,S-3,=1+1,,\n"
        "cap,Cap,,Acme,C-1,9.90,,\nmug,Mug,,Acme,M-1,5,{u}/sf-3,1\n",
    ),
    "woocommerce.csv": (
        "utf-8-sig",
        "ID,Type,SKU,Name,Published,Images,Position\r\n"
        '7,simple,woo-1,"Vase, rot",1,"{u}/woo-1, {u}/woo-2",0\r\n'
        "8,variation,woo-2,Vase,1,,1\r\n9,simple,woo-3,-Ünder,1,{u}/woo-3,2\r\n\r\n",
    ),
    "google.tsv": (
        "utf-8",
        "id\ttitle\tlink\timage_link\tadditional_image_link\tprice\n"
        "g1\tOne\thttps://shop.example/1\t{u}/g-1\t{u}/g-2,{u}/g-3\t1.00 EUR\n"
        "g2\tTwo\thttps://shop.example/2\t{u}/g-4\t\t2.00 EUR",
    ),
    "magento.csv": (
        "utf-8",
        '"sku","store_view_code","name","base_image","additional_images"\n'
        '"m-1","","Ring","{u}/m-1","{u}/m-2,{u}/m-3"\n"m-2","","Chain","{u}/m-4",""\n',
    ),
    "prestashop.csv": (
        "utf-8",
        "Product ID;Active (0/1);Name *;Image URLs (x,y,z...);Delete existing images (0 = No)\r\n"
        "1;1;Lampe;{u}/ps-1,{u}/ps-2;0\r\n2;1;Tisch;;0\r\n",
    ),
    "matrixify.csv": (
        "utf-8",
        "ID,Handle,Command,Title,Top Row,Row #,Image Src,Image Command\n"
        "1,hat,MERGE,Hat,TRUE,1,{u}/mx-1,MERGE\n1,hat,MERGE,,,2,{u}/mx-2;{u}/mx-3,MERGE\n",
    ),
    "excel-de.csv": (
        "cp1252",
        "Preisliste März;;;\r\n;;;\r\nArtikelnummer;Bezeichnung;Preis €;Bild\r\n"
        '0815;Stuhl "Größe L";12,50;{u}/de-1\r\n0816;"Tür; weiß";9;{u}/de-2 \r\n;;;\r\n',
    ),
    "json.csv": (
        "utf-16",
        'sku,name,images\r\nj-1,Ä,"[""{u}/js-1"", ""{u}/js-2""]"\r\n',
    ),
}  # fmt: skip


def exported(shop: Shop, name: str) -> Path:
    encoding, text = EXPORTS[name]
    file = shop.root / name
    file.write_bytes(text.replace("{u}", shop.server.url("/pic")).encode(encoding))
    return file


@pytest.fixture
def shop(shop: Shop) -> Shop:
    shop.env["PIPELINE_PUBLIC_URL"] = PUBLIC
    return shop


def result(shop: Shop, reference: str) -> Path:
    found = shop.job(reference)
    assert found["state"] == "completed", found
    return shop.output / str(found["answer"])


def without_addresses(content: bytes) -> bytes:
    return re.sub(ADDRESS + b"|" + URL, b"@", content)


def test_each_kind_of_export_comes_back_with_nothing_changed_but_its_images(shop: Shop) -> None:
    files = {name: exported(shop, name) for name in EXPORTS}
    references = {name: shop.submit(file, "--result", "replace") for name, file in files.items()}
    shop.env["PIPELINE_JOB_RESULT"] = "replace"
    (shop.input / "feed.tsv").write_bytes(files["google.tsv"].read_bytes())
    shop.run()
    (dropped,) = {job["answer"] for job in shop.cli("job", "list", "--json").json} - {
        f"{reference}{Path(name).suffix}" for name, reference in references.items()
    }
    assert re.fullmatch(r"feed-[0-9]+\.tsv", dropped)
    for name, file in files.items():
        before, after = file.read_bytes(), result(shop, references[name]).read_bytes()
        if EXPORTS[name][0] == "utf-16":
            assert after[:2] == before[:2]
            before, after = (text.decode("utf-16").encode() for text in (before, after))
        assert without_addresses(after) == without_addresses(before), name
        addresses = [unquote(address.decode()) for address in re.findall(ADDRESS, after)]
        found = [address.removeprefix(f"{PUBLIC}/") for address in addresses]
        assert len(found) == len(set(found)) == len(re.findall(URL, before)) > 0, name
        assert all((shop.output / path).is_file() for path in found), name
    for reference in references.values():
        # The shop's own file is accepted again.
        shop.submit(result(shop, reference), "--result", "replace")


def workbook(shop: Shop, name: str = "products.xlsx") -> Path:
    book = openpyxl.Workbook()
    book.active.append(["Read me", "=1+1"])
    sheet = book.create_sheet("Products")
    for row in [
        ["Price list"],
        [*HEADER, "Price"],
        [1, "SKU1", f"{shop.urls('/pic/x-1')}, {shop.urls('/pic/x-2')}", 1.5],
        [2, "=A1", None, "=1+1"],
        [3, "SKU3", shop.urls("/pic/x-3"), "=2+2"],
    ]:
        sheet.append(row)
    sheet["C3"].font = openpyxl.styles.Font(bold=True)
    file = shop.root / name
    file.parent.mkdir(exist_ok=True)
    book.save(file)
    return file


def parts(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_workbook_comes_back_with_other_cells_and_all_else_as_it_was(shop: Shop) -> None:
    file = workbook(shop)
    reference = shop.submit(file, "--result", "replace")
    shop.run()
    answer = result(shop, reference)
    assert answer.name == f"{reference}.xlsx"
    before, after = parts(file), parts(answer)
    assert {name for name in before | after if before.get(name) != after.get(name)} == {SHEET}
    cell = rb'<c r="C[0-9]"[^>]*>.*?</c>'
    assert re.sub(cell, b"", after[SHEET]) == re.sub(cell, b"", before[SHEET])
    sheet = openpyxl.load_workbook(answer)["Products"]
    assert sheet["C3"].font.bold
    name = f"{PUBLIC}/jobs/half/{reference}/{reference}"
    assert [sheet[f"C{row}"].value for row in (2, 3, 4, 5)] == [
        HEADER[2], f"{name}_1_SKU1_0.jpg, {name}_1_SKU1_1.jpg", None, f"{name}_3_SKU3_0.jpg"
    ]  # fmt: skip
    shop.submit(answer, "--result", "replace")


def test_a_dropped_workbook_gets_columns_beside_its_own_and_follows_its_changes(
    shop: Shop,
) -> None:
    del shop.env["PIPELINE_PUBLIC_URL"]
    file = workbook(shop, "input/feed.xlsx")
    shop.run()
    job = shop.job()
    assert job["answer"] == f"feed-{job['reference']}.xlsx"
    assert job["columns"]["sheet"] == "Products"
    assert "sheet 'Products', lockstep (" in shop.cli("job", "status", job["reference"]).stdout
    sheet = openpyxl.load_workbook(shop.output / job["answer"])["Products"]
    rows = list(sheet.iter_rows(min_row=2, min_col=4, values_only=True))
    path = f"jobs/half/{job['reference']}/{job['reference']}"
    assert rows == [
        ("Price", "Output Image Urls", "Errors", "Error Codes"),
        (1.5, f"{path}_1_SKU1_0.jpg,{path}_1_SKU1_1.jpg", None, None),
        ("=1+1", None, None, None),
        ("=2+2", f"{path}_3_SKU3_0.jpg", None, None),
    ]
    book = openpyxl.load_workbook(file)
    book["Products"].delete_rows(5)
    book.save(file)
    shop.run()
    assert shop.job()["images"]["total"] == 2
    assert len(shop.pictures()) == 2
    file.unlink()
    shop.run("--allow-removed")
    assert shop.outputs() == {}


def test_what_fails_keeps_its_address_and_is_listed_beside_the_result(shop: Shop) -> None:
    shop.env["PIPELINE_JOB_RESULT"] = "replace"
    file = shop.csv(
        {"1": shop.urls("/pic/1", "/not-there"), "2": shop.urls("/pic/2")}, "input/feed.csv"
    )
    shop.run(code=1)
    reference = shop.job()["reference"]
    before, answer = file.read_bytes(), shop.output / f"feed-{reference}.csv"
    missing = shop.urls("/not-there")
    assert without_addresses(answer.read_bytes()) == without_addresses(before)
    assert missing in answer.read_text()
    failed = shop.output / f"feed-{reference}.errors.csv"
    with failed.open(encoding="utf-8-sig", newline="") as lines:
        (_, (line, column, message, code)) = csv.reader(lines)
    assert (line, column, code) == ("2", HEADER[2], "not_found")
    assert message.startswith(f"{missing}: ")

    # Once nothing fails, there is no list.
    shop.csv({"1": shop.urls("/pic/1", "/pic/3"), "2": shop.urls("/pic/2")}, "input/feed.csv")
    shop.run()
    assert not failed.exists()


def test_the_address_of_a_withdrawn_image_is_removed(shop: Shop) -> None:
    file = shop.csv({"1": shop.urls("/pic/1", "/pic/2"), "2": shop.urls("/pic/3")})
    reference = shop.submit(file, "--result", "replace")
    shop.run()
    for (digest,) in shop.query("SELECT sha256 FROM renditions WHERE path NOT LIKE '%SKU1_0%'"):
        shop.cli("takedown", digest, "--reason", "withdrawn")
    shop.run()
    rows = list(csv.reader(io.StringIO((shop.output / f"{reference}.csv").read_text())))
    name = f"{PUBLIC}/jobs/half/{reference}/{reference}"
    assert rows == [HEADER, ["1", "SKU1", f"{name}_1_SKU1_0.jpg"], ["2", "SKU2", ""]]


def test_a_kill_and_a_full_disk_leave_no_half_of_a_result(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = shop.submit(workbook(shop), "--result", "replace")
    killed = killed_before("pipeline.csvs.workbook_writing", "_part", call=2)
    assert shop.in_child(killed, "run") == -signal.SIGKILL
    with monkeypatch.context() as full:
        error = OSError(errno.ENOSPC, "No space left on device")
        full.setattr(workbook_writing, "_part", Mock(side_effect=error))
        answer = shop.cli("run")
    assert answer.code == 2
    assert "No space left on device" in answer.stderr
    assert not (shop.output / f"{reference}.xlsx").exists()
    shop.run()
    assert len(parts(result(shop, reference))) == len(parts(shop.root / "products.xlsx"))
    assert not temporary_files(shop)


def test_a_workbook_with_columns_of_its_own_is_read_by_their_names(shop: Shop) -> None:
    book = openpyxl.Workbook()
    book.active.append(["Notes"])
    sheet = book.create_sheet("Liste")
    urls = shop.urls("/pic/1"), shop.urls("/not-there")
    for row in (["Key", "What", "Photo"], ["a", "One", urls[0]], ["b", "Two", urls[1]]):
        sheet.append(row)
    file = shop.root / "list.xlsx"
    book.save(file)
    given = [f"--map={pair}" for pair in ("number=Key", "name=What", "images=Photo")]
    reference = shop.submit(file, "--result", "replace", *given)
    shop.run(code=1)
    answer = openpyxl.load_workbook(shop.output / f"{reference}.xlsx")["Liste"]
    photos = [cell.value for cell in answer["C"]]
    assert photos[1].startswith(PUBLIC)
    assert photos[2] == urls[1]
    # The rows that failed are a CSV, as a spreadsheet opens it.
    failed = shop.cli("job", "failed-rows", reference, "-o", str(shop.root / "fix.csv"))
    assert failed.code == 0, failed
    fixed = (shop.root / "fix.csv").read_bytes().decode("utf-8-sig")
    assert fixed == f"Key,What,Photo\r\nb,Two,{urls[1]}\r\n"


def test_what_a_job_lacks_of_the_service_is_said_to_operators_and_not_to_customers(
    shop: Shop,
) -> None:
    file = shop.csv({"1": shop.urls("/pic/1")})
    reference = shop.submit(file, "--result", "replace")
    shop.env["PIPELINE_PUBLIC_URL"] = ""
    said = shop.cli("run").stderr
    assert f"job {reference}" in said
    assert "need PIPELINE_PUBLIC_URL; set it" in said
    job = shop.job()
    assert job["state"] == "failed"
    assert job["reason"] == (
        "its result needs the public address of the images, which the service does not have now; "
        "tell the people who run it, and submit the file again"
    )


def test_without_a_public_address_nothing_is_replaced(shop: Shop) -> None:
    del shop.env["PIPELINE_PUBLIC_URL"]
    file = shop.csv({"1": shop.urls("/pic/1")})
    answer = shop.cli("job", "submit", str(file), "--result", "replace")
    assert answer.code == 2
    assert "set PIPELINE_PUBLIC_URL" in answer.stderr
    shop.env["PIPELINE_JOB_RESULT"] = "replace"
    answer = shop.cli("status")
    assert answer.code == 2
    assert "PIPELINE_JOB_RESULT=replace needs PIPELINE_PUBLIC_URL" in answer.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("old.xls", b"\xd0\xcf\x11\xe0" + bytes(600), "with a password"),
        ("torn.xlsx", b"PK\x03\x04" + bytes(600), "damaged"),
    ],
)
def test_other_workbooks_are_refused_with_a_remedy(
    shop: Shop, name: str, content: bytes, said: str
) -> None:
    file = shop.root / name
    file.write_bytes(content)
    answer = shop.cli("job", "submit", str(file))
    assert answer.code == 2
    assert said in answer.stderr
    assert "save" in answer.stderr
