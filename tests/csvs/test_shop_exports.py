"""Product files as shop systems write them: their headers, quoting, encoding and line ends."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.csvs.mapping import Mapping
from pipeline.csvs.products import CsvProduct, iter_products
from pipeline.csvs.reading import CsvCheck, CsvForm, check_csv

SHOPIFY = (
    "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,"
    "Option1 Value,Variant SKU,Variant Grams,Variant Inventory Tracker,Variant Price,Image Src,"
    "Image Position,Image Alt Text,Gift Card,SEO Title,Variant Image,Status\n"
    'mug,Blue mug,"<p>A ""nice"" mug,\nholds 300 ml</p>",Clay,,Mugs,"mug, blue",true,Size,S,M-S,'
    "300,shopify,9.00,https://cdn.shopify.com/s/files/1/0001/files/mug-1.jpg?v=1,1,Front,false,,"
    "https://cdn.shopify.com/s/files/1/0001/files/mug-1.jpg?v=1,active\n"
    "mug,,,,,,,,,L,M-L,400,shopify,11.00,"
    "https://cdn.shopify.com/s/files/1/0001/files/mug-2.jpg?v=1,2,,,,,\n"
    "mug,,,,,,,,,,,,,,https://cdn.shopify.com/s/files/1/0001/files/mug-3.jpg?v=1,3,,,,,\n"
    "card,Gift card,,Clay,,Cards,,true,Title,Default Title,,0,,25.00,,,,true,,,active\n"
    "tile,Tile,,Clay,,Tiles,,true,Title,Default Title,T,900,shopify,4.00,"
    "https://cdn.shopify.com/s/files/1/0001/files/tile.png?v=7,1,,false,,,draft\n"
)
# The template of 2025 has other headers.
SHOPIFY_NEW = (
    "Title,URL handle,Description,Vendor,Product category,Type,Tags,Published on online store,"
    "Status,SKU,Option1 name,Option1 value,Price,Product image URL,Image position,Image alt text,"
    "Variant image URL\n"
    "Blue mug,mug,,Clay,,Mugs,,TRUE,Active,M-S,Size,S,9,https://cdn.example/mug-1.jpg,1,,\n"
    ",mug,,,,,,,,M-L,,L,11,https://cdn.example/mug-2.jpg,2,,\n"
)
WOOCOMMERCE = (
    'ID,Type,SKU,"GTIN, UPC, EAN, or ISBN",Name,Published,"Is featured?","Visibility in catalog",'
    '"Short description",Description,"In stock?",Stock,"Regular price",Categories,Images,Parent,'
    'Position,"Attribute 1 name","Attribute 1 value(s)"\n'
    '44,variable,woo-hoodie,,Hoodie,1,0,visible,"A hoodie.",,1,,,Hoodies,'
    '"https://shop.example/wp-content/uploads/hoodie-2.jpg, '
    'https://shop.example/wp-content/uploads/hoodie-blue-1.jpg",,0,Color,"Blue, Green"\n'
    "57,variation,,,Hoodie - Blue,1,0,visible,,,1,,45,,"
    "https://shop.example/wp-content/uploads/hoodie-blue-1.jpg,woo-hoodie,1,Color,Blue\n"
    "58,variation,woo-hoodie-green,,Hoodie - Green,1,0,visible,,,1,,45,,,woo-hoodie,2,Color,Green\n"
)
WOOCOMMERCE_GERMAN = (
    "ID,Typ,Artikelnummer,Name,Veröffentlicht,Beschreibung,Kategorien,Bilder\n"
    '7,simple,T-1,"Tasse, groß",1,,Tassen,'
    '"https://laden.example/a.jpg, https://laden.example/b.jpg"\n'
)
GOOGLE = (
    "id\ttitle\tdescription\tlink\tprice\tavailability\timage_link\tadditional_image_link\n"
    "A1\tBlue mug\tHolds 300 ml\thttps://shop.example/mug\t9.00 EUR\tin_stock\t"
    "https://shop.example/i/mug.jpg\t"
    "https://shop.example/i/w_100,h_50/mug2.jpg,https://shop.example/i/mug3.jpg\n"
    'A2\tTile 12" wide\t\thttps://shop.example/tile\t4.00 EUR\tin_stock\t'
    "https://shop.example/i/tile.jpg\t\n"
)
GOOGLE_GERMAN = (
    "ID\tTitel\tBeschreibung\tLink\tBildlink\tZusätzlicher Bildlink\tZusätzlicher Bildlink\n"
    "A1\tGroße Tasse\t\thttps://s.example/t\thttps://s.example/1.jpg\thttps://s.example/2.jpg\t"
    "https://s.example/3.jpg\n"
)
MAGENTO = (
    "sku,store_view_code,attribute_set_code,product_type,categories,product_websites,name,"
    "description,price,base_image,base_image_label,small_image,additional_images,"
    "additional_image_labels,additional_attributes\n"
    '24-MB01,,Bag,simple,"Default Category/Gear,Default Category/Gear/Bags",base,'
    '"Joust Duffle Bag","<p>Strap & ""handles""</p>",34.0,'
    "https://m.example/media/catalog/product/m/b/mb01-blue-0.jpg,,,"
    '"https://m.example/media/catalog/product/m/b/mb01-a.jpg,'
    'https://m.example/media/catalog/product/m/b/mb01-b.jpg",,"activity=Gym,material=Nylon"\n'
    "24-MB01,de,Bag,simple,,,Sporttasche,,,,,,,,\n"
    "24-MB04,,Bag,simple,,base,Strive,,32.0,https://m.example/media/mb04.jpg,,,,,\n"
)
PRESTASHOP = (
    "Product ID;Active (0/1);Name *;Categories (x,y,z...);Price tax excluded;Reference #;"
    "Image URLs (x,y,z...);Image alt texts (x,y,z...);Delete existing images (0 = No, 1 = Yes)\n"
    "1;1;Hummingbird t-shirt;Home,Clothes;23.9;demo_1;"
    "https://p.example/img/p/1.jpg,https://p.example/img/p/2.jpg;Front,Back;1\n"
    ";1;Mug The best;Home;11.9;demo_11;https://p.example/img/p/11.jpg;;1\n"
)
MATRIXIFY = (
    "ID,Handle,Command,Title,Body HTML,Vendor,Tags,Status,Row #,Top Row,Image Type,Image Src,"
    "Image Command,Image Position,Image Alt Text,Variant ID,Variant SKU\n"
    "6671,mug,MERGE,Blue mug,,Clay,,Active,1,TRUE,IMAGE,"
    "https://cdn.shopify.com/mug-1.jpg;https://cdn.shopify.com/mug-2.jpg,MERGE,1,,401,M-S\n"
    "6671,mug,MERGE,Blue mug,,,,,2,,IMAGE,https://cdn.shopify.com/mug-3.jpg,MERGE,3,,402,M-L\n"
)
EXCEL_GERMAN = (
    "Preisliste Müller & Söhne;;;;\r\n"
    "Stand: 01.11.2026;;;;\r\n"
    "\r\n"
    "Artikelnummer;Bezeichnung;Preis;Bild-URL;Bemerkung\r\n"
    '100-A;"Tasse ""groß"", blau";4,50 €;//cdn.example/tasse.jpg|//cdn.example/tasse-2.jpg;neu\r\n'
    '100-B;Krug;12,00 €;"https://cdn.example/krug.jpg\nhttps://cdn.example/krug-2.jpg";"a\nb"\r\n'
    "100-C;Teller;3,00 €;;\r\n"
)


class Expected(NamedTuple):
    """What a file is: its mapping, products as number, name and images, and those without one."""

    mapping: str
    products: list[tuple[str, str, int]]
    without_images: int = 0


FILES: dict[str, tuple[bytes, Expected]] = {
    "shopify": (
        SHOPIFY.encode(),
        Expected(
            "shopify", [("mug", "Blue mug", 3), ("card", "Gift card", 0), ("tile", "Tile", 1)], 1
        ),
    ),
    "shopify, new template": (
        codecs.BOM_UTF8 + SHOPIFY_NEW.encode(),
        Expected("shopify", [("mug", "Blue mug", 2)]),
    ),
    "woocommerce": (
        codecs.BOM_UTF8 + WOOCOMMERCE.encode(),
        Expected(
            "woocommerce",
            [
                ("woo-hoodie", "Hoodie", 2),
                ("57", "Hoodie - Blue", 1),
                ("woo-hoodie-green", "Hoodie - Green", 0),
            ],
            1,
        ),
    ),
    "woocommerce, german": (
        codecs.BOM_UTF8 + WOOCOMMERCE_GERMAN.encode(),
        Expected("woocommerce", [("T-1", "Tasse, groß", 2)]),
    ),
    "google": (
        GOOGLE.encode(),
        Expected("google", [("A1", "Blue mug", 3), ("A2", 'Tile 12" wide', 1)]),
    ),
    "google, german and UTF-16": (
        codecs.BOM_UTF16_LE + GOOGLE_GERMAN.replace("\n", "\r\n").encode("utf-16-le"),
        Expected("google", [("A1", "Große Tasse", 3)]),
    ),
    "magento": (
        MAGENTO.encode(),
        Expected("magento", [("24-MB01", "Joust Duffle Bag", 3), ("24-MB04", "Strive", 1)]),
    ),
    "prestashop": (
        PRESTASHOP.encode(),
        Expected("prestashop", [("1", "Hummingbird t-shirt", 2), ("demo_11", "Mug The best", 1)]),
    ),
    "matrixify": (MATRIXIFY.encode(), Expected("matrixify", [("mug", "Blue mug", 3)])),
    "excel, german": (
        EXCEL_GERMAN.encode("cp1252"),
        Expected(
            "table",
            [("100-A", 'Tasse "groß", blau', 2), ("100-B", "Krug", 2), ("100-C", "Teller", 0)],
            1,
        ),
    ),
}


def checked(tmp_path: Path, content: str | bytes) -> tuple[CsvCheck, list[CsvProduct]]:
    file = tmp_path / "export.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    check = check_csv(file)
    if check.problems or check.dialect is None:
        return check, []
    return check, list(iter_products(file, check.dialect))


@pytest.mark.parametrize("kind", FILES)
def test_an_export_is_read_without_being_told_what_it_is(tmp_path: Path, kind: str) -> None:
    content, expected = FILES[kind]
    check, products = checked(tmp_path, content)
    assert check.problems == []
    assert check.dialect is not None
    assert isinstance(check.dialect.mapping, Mapping)
    assert check.dialect.mapping.label == expected.mapping
    assert [(p.number, p.name, len(p.images)) for p in products] == expected.products
    assert check.products == len(products)
    assert check.images == sum(len(product.images) for product in products)
    assert check.without_images == expected.without_images
    assert check.rows == sum(len(product.rows) for product in products)


@pytest.mark.parametrize("kind", FILES)
def test_each_url_is_where_its_place_says(tmp_path: Path, kind: str) -> None:
    _, products = checked(tmp_path, FILES[kind][0])
    places = [(product, image) for product in products for image in product.images]
    assert places
    for product, image in places:
        text = product.rows[image.row].cells[image.column][image.start : image.end]
        assert image.url in (text, f"https:{text}")


def test_the_rows_of_a_product_keep_their_lines_and_the_order_of_their_images(
    tmp_path: Path,
) -> None:
    _, (mug, card, _) = checked(tmp_path, SHOPIFY)
    assert [row.line for row in mug.rows] == [2, 4, 5]
    assert [url.rpartition("/")[2] for url in mug.urls] == [
        "mug-1.jpg?v=1",
        "mug-2.jpg?v=1",
        "mug-3.jpg?v=1",
    ]
    assert mug.images_of_rows() == [[0], [1], [2]]
    assert (card.line, card.images_of_rows()) == (6, [[]])


def test_a_title_is_taken_from_the_row_that_has_it(tmp_path: Path) -> None:
    check, products = checked(
        tmp_path,
        "Handle,Title,Image Src\nmug,,https://a.example/1.jpg\nmug,Mug,https://a.example/2.jpg\n"
        ",,https://a.example/3.jpg\n",
    )
    assert check.problems == []
    assert [(p.number, p.name, len(p.urls)) for p in products] == [("mug", "Mug", 3)]


def test_rows_of_a_product_that_do_not_stand_together_are_a_problem(tmp_path: Path) -> None:
    check, _ = checked(
        tmp_path,
        "Handle,Title,Image Src\na,A,https://a.example/1\nb,B,https://a.example/2\n"
        "a,A,https://a.example/3\n",
    )
    assert [(p.line, p.column, p.message) for p in check.problems] == [
        (4, "Handle", "'a' is already the number of line 2; put its rows below each other")
    ]


def test_a_product_of_endless_rows_is_a_problem_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.csvs.products.MAX_PRODUCT_ROWS", 3)
    rows = "a,A,https://a.example/1\n" * 5 + "b,B,https://a.example/2\n"
    check, _ = checked(tmp_path, "Handle,Title,Image Src\n" + rows)
    assert [(problem.line, problem.column) for problem in check.problems] == [(2, "Handle")]
    assert "look whether the right column is its number" in check.problems[0].message
    assert (check.rows, check.products) == (6, 1)


def test_headers_that_are_not_known_are_listed_with_those_that_are_and_with_the_way_on(
    tmp_path: Path,
) -> None:
    check, _ = checked(tmp_path, "Code;Was;Foto\n1;Mug;https://a.example/1.jpg\n")
    (problem,) = check.problems
    assert problem.line == 1
    for part in ("'Code', 'Was', 'Foto'", "shopify (Handle, Title, Image Src)", "--map number="):
        assert part in problem.message
    assert check.dialect is not None
    assert check.dialect.delimiter == ";"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_separator_is_that_of_most_rows_where_no_header_is_known(
    tmp_path: Path, delimiter: str
) -> None:
    rows = [["Prices, as of today; all"], ["Code", "What", "Photo"], ["1", "Mug; big", "x"]]
    rows += [[str(n), "a, b", "https://a.example/"] for n in range(9)]
    lines = [delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in row)
             for row in rows]  # fmt: skip
    check, _ = checked(tmp_path, "\n".join(lines))
    assert check.dialect is not None
    assert check.dialect.delimiter == delimiter
    assert (check.dialect.header, check.dialect.first_line) == (("Code", "What", "Photo"), 2)


def test_a_file_none_of_whose_rows_has_an_image_is_a_problem(tmp_path: Path) -> None:
    check, _ = checked(tmp_path, "Handle,Title,Image Src\na,A,\nb,B,\n")
    assert [(p.line, p.column) for p in check.problems] == [(1, "Image Src")]


def test_images_without_a_host_are_below_the_base(tmp_path: Path) -> None:
    text = MAGENTO.replace("https://m.example/media/catalog/product/", "/")
    text = text.replace("https://m.example/media/mb04.jpg", "/m/b/mb 04-ü.jpg")
    check, _ = checked(tmp_path, text)
    assert check.fault_count == 3
    assert "is a path without a host; name the address that it is below, such as --base" in (
        check.problems[0].message
    )
    file = tmp_path / "export.csv"
    base = "https://m.example/media/catalog/product/"
    check = check_csv(file, form=CsvForm(base=base))
    assert check.problems == []
    assert check.dialect is not None
    first, second = iter_products(file, check.dialect)
    assert first.urls == (
        f"{base}m/b/mb01-blue-0.jpg",
        f"{base}m/b/mb01-a.jpg",
        f"{base}m/b/mb01-b.jpg",
    )
    assert second.urls == (f"{base}m/b/mb%2004-%C3%BC.jpg",)
    for product in (first, second):
        for image in product.images:
            text = product.rows[image.row].cells[image.column][image.start : image.end]
            assert text.startswith("/m/b/mb")
