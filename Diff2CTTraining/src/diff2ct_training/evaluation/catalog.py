"""What each score is called, which way is better and where it belongs: one place for tables, figures and the report."""

from __future__ import annotations

from dataclasses import dataclass

from diff2ct_training.evaluation.tables import Column


@dataclass(frozen=True)
class Section:
    """A table of the report. about: what a reader has to know to read it, one or two sentences. columns: metric -> how it is
    shown. tested: compared with the reference method; Holm-corrected within the table. leads: before the figures."""

    title: str
    about: str
    columns: dict[str, Column]
    tested: bool = False
    leads: bool = False

    @property
    def tests(self) -> list[str]:
        """The metrics that are compared: those that one method can be better in."""
        return [metric for metric, column in self.columns.items() if self.tested and column.arrow]


SECTIONS = (
    Section(
        "Inside the body",
        "The figures that count: structure and HU where the patient is, in the window in which a spine is read (-200..800 HU).",
        {
            "ssim_3d_body": Column("SSIM body", "", "up"),
            "bone_dice": Column("Bone Dice", "", "up"),
            "metal_dice": Column("Metal Dice", "", "up"),
            "mae_hu_bone": Column("MAE bone", "HU", "down"),
            "mae_hu_body": Column("MAE body", "HU", "down"),
            "bias_hu_body": Column("Bias body", "HU", "zero"),
        },
        tested=True,
        leads=True,
    ),
    Section(
        "Whole volume",
        "As papers report. The window -1000..4096 HU of Diff2CT, then -1000..1500 HU of X2CT-GAN, always on [0, 1]. Mostly "
        "air and outline: a true outline filled with 40 HU already scores high here.",
        {
            "ssim_3d_wide": Column("SSIM 3D", "", "up"),
            "ssim_2d_wide": Column("SSIM 2D", "", "up"),
            "psnr_wide": Column("PSNR", "dB", "up"),
            "mae_wide": Column("MAE [0, 1]", "", "down"),
            "ssim_2d_x2ct": Column("SSIM 2D, X2CT", "", "up"),
            "psnr_x2ct": Column("PSNR, X2CT", "dB", "up"),
            "lpips_alex": Column("LPIPS Alex", "", "down"),
            "lpips_vgg": Column("LPIPS VGG", "", "down"),
        },
        tested=True,
        leads=True,
    ),
    Section(
        "Whole volume, other measures",
        "What some papers report besides, on [0, 1] in the same two windows.",
        {
            "cosine_wide": Column("Cosine", "", "up"),
            "mae_x2ct": Column("MAE [0, 1], X2CT", "", "down"),
            "ssim_3d_x2ct": Column("SSIM 3D, X2CT", "", "up"),
            "cosine_x2ct": Column("Cosine, X2CT", "", "up"),
        },
    ),
    Section(
        "HU error by tissue",
        "Regions come from the truth: air below -200 HU inside the body, fat -200..-30, soft tissue -200..300, bone above 300, "
        "metal above 2500 HU and one voxel around it; whole has the air around the body too.",
        {f"mae_hu_{r}": Column(f"MAE {r}", "HU", "down") for r in ("whole", "air", "fat", "soft", "bone", "metal")},
    ),
    Section(
        "HU root mean square error by tissue",
        "In the same regions: large errors count more than in the MAE.",
        {f"rmse_hu_{r}": Column(f"RMSE {r}", "HU", "down") for r in ("whole", "body", "air", "fat", "soft", "bone", "metal")},
    ),
    Section(
        "HU bias by tissue",
        "Mean of reconstruction minus truth in the same regions. Below 0: not dense enough.",
        {f"bias_hu_{r}": Column(f"Bias {r}", "HU", "zero") for r in ("whole", "air", "fat", "soft", "bone", "metal")},
    ),
    Section(
        "Agreement with the X-rays",
        "The reconstruction's own X-rays against the given ones, gain and offset fitted. Tissue outside the cube cannot be "
        "explained, so the truth itself does not reach 0. Before: as it was before data consistency (at each step: before that "
        "of the last one), where there was any and the model's own voxels are those of the table.",
        {
            "reprojection_before_l2_frontal": Column("L2 frontal, before"),
            "reprojection_l2_frontal": Column("L2 frontal", "", "down"),
            "reprojection_before_l2_lateral": Column("L2 lateral, before"),
            "reprojection_l2_lateral": Column("L2 lateral", "", "down"),
            "reprojection_before_ncc_frontal": Column("NCC frontal, before"),
            "reprojection_ncc_frontal": Column("NCC frontal", "", "up"),
            "reprojection_before_ncc_lateral": Column("NCC lateral, before"),
            "reprojection_ncc_lateral": Column("NCC lateral", "", "up"),
        },
        tested=True,
    ),
    Section(
        "Vertebrae",
        "Means over whole vertebrae. Bone Dice compares what is above 200 HU inside the true label; the others need a label "
        "map of the reconstruction (--predicted-labels).",
        {
            "bone_dice_in_true_vertebrae": Column("Bone Dice in true vertebrae", "", "up"),
            "vertebra_dice": Column("Dice", "", "up"),
            "vertebra_hd95_mm": Column("HD95", "mm", "down", given="vertebra_found"),
            "vertebra_assd_mm": Column("ASSD", "mm", "down", given="vertebra_found"),
            "vertebra_nsd_1mm": Column("NSD 1 mm", "", "up"),
            "vertebra_nsd_2mm": Column("NSD 2 mm", "", "up"),
            "vertebra_centroid_mm": Column("Centroid", "mm", "down", given="vertebra_found"),
            "vertebra_found": Column("Found", "", "up"),
        },
        tested=True,
    ),
    Section(
        "Shape of vertebrae",
        "How far measures of the reconstruction's label map (--predicted-labels) are from the same measures of the true one: "
        "heights of the body, canal from front to back, narrowest width of the pedicles, tilt of endplates, lordosis and Cobb "
        "angle over the vertebrae that are whole in both.",
        {
            "vertebra_height_anterior_error_mm": Column("Height, front", "mm", "down"),
            "vertebra_height_middle_error_mm": Column("Height, middle", "mm", "down"),
            "vertebra_height_posterior_error_mm": Column("Height, back", "mm", "down"),
            "vertebra_canal_error_mm": Column("Canal", "mm", "down"),
            "vertebra_pedicle_error_mm": Column("Pedicle", "mm", "down"),
            "vertebra_tilt_error_deg": Column("Endplate tilt", "deg", "down"),
            "lordosis_error_deg": Column("Lordosis", "deg", "down"),
            "cobb_error_deg": Column("Cobb", "deg", "down"),
        },
    ),
    Section(
        "Pedicle screws",
        "Screws found in the reconstruction above 2000 HU, matched to the true ones. oracle-truth shows what the detector "
        "itself gets wrong. Errors are of found screws only: read them beside the recall. A grade changes if a surgeon would "
        "judge the breach of the pedicle differently (Gertzbein-Robbins).",
        {
            "screw_recall": Column("Recall", "", "up"),
            "screw_precision": Column("Precision", "", "up"),
            "screw_tip_error_mm": Column("Tip", "mm", "down", given="screw_recall"),
            "screw_head_error_mm": Column("Head", "mm", "down", given="screw_recall"),
            "screw_axis_error_deg": Column("Axis", "deg", "down", given="screw_recall"),
            "screw_grade_changed_in_true_bone": Column("Grade changed (true bone)", "", "down", given="screw_recall"),
            "screw_grade_changed_in_own_bone": Column("Grade changed (own bone)", "", "down", given="screw_recall"),
        },
        tested=True,
    ),
    Section(
        "Uncertainty",
        "How often the truth lies in intervals of the samples, inside the body (t: Student's prediction interval; q: between "
        "the samples themselves; calibrated: what the checkpoint's calibration makes of them), and how often volumes of bone, "
        "metal, gas and body and mean HU of the body lie within their conformal bounds. ENCE 0 and slope 1 are a spread that "
        "says how large the error is, AUSE 0 one that says where.",
        {
            **{f"coverage_t_{level}": Column(f"{level} % t") for level in (50, 80, 90)},
            **{f"coverage_q_{level}": Column(f"{level} % q") for level in (50, 80, 90)},
            **{f"coverage_calibrated_{level}": Column(f"{level} % calibrated") for level in (50, 80, 90)},
            **{f"bounds_hold_{level}": Column(f"{level} % bounds") for level in (50, 80, 90)},
            "ence": Column("ENCE", "", "down"),
            "spread_skill_slope": Column("RMSE / SD"),
            "sd_error_spearman": Column("SD vs error", "", "up"),
            "ause": Column("AUSE", "", "down"),
            "crps_hu": Column("CRPS", "HU", "down"),
        },
    ),
    Section(
        "Other papers' conventions",
        "Only to stand beside the tables of those papers; comparable with nothing else, in particular not with the figures "
        "above. X2CT-GAN and PerX2CT: PSNR of whole numbers 0..2500 with MAX 4095; the SSIM of X2CT-GAN is SSIM 2D, X2CT, "
        "that of PerX2CT 3D with a uniform window and data range 2 on [0, 1]. Diff2CT: on [-1, 1] with range 2; its paper does "
        "not say which SSIM it has, this one is 3D with a Gaussian window.",
        {
            "psnr_slices_x2ct_compat": Column("PSNR as X2CT, PerX2CT (slices, 4095)", "dB", "up"),
            "psnr_volume_x2ct_compat": Column("PSNR as X2CT (volume, 4095)", "dB", "up"),
            "ssim_3d_perx2ct_compat": Column("SSIM as PerX2CT (3D uniform, range 2)", "", "up"),
            "mae_seed_compat": Column("MAE as Diff2CT [-1, 1]", "", "down"),
            "psnr_seed_compat": Column("PSNR as Diff2CT [-1, 1]", "dB", "up"),
            "ssim_3d_seed_compat": Column("SSIM as Diff2CT (3D Gaussian, [-1, 1])", "", "up"),
        },
    ),
    Section("Time", "Wall time of one reconstruction on this machine.", {"seconds": Column("Time", "s", "down")}),
)

HEADLINES = ("ssim_3d_body", "bone_dice", "mae_hu_bone", "mae_hu_body")
"""What is drawn."""


def column_of(metric: str) -> Column:
    """How a metric is shown."""
    for section in SECTIONS:
        if metric in section.columns:
            return section.columns[metric]
    return Column(metric)
