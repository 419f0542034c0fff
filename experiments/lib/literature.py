"""Published results on FER-2013, RAF-DB and CK+, not reproduced here.

Accuracies are as printed in the thesis's tables 5.1 to 5.3, or in the source given.
"Not stated" and "unknown to us" mean that no statement was found; a row without caveats
was not necessarily checked. Cited addresses were read; code is cited with the file that
was read. Issue numbers are those of the method's own repository. On FER-2013, claims
are on original pixels as far as is known; the equalized images of Kaggle's folder copy
give other accuracies (docs/guides/evaluation.md).
"""

from typing import NamedTuple

UNKNOWN = "unknown"

# The tables of the thesis specify the split only as "test set".
_TEST_SET = "test set; how the epoch was chosen: unknown to us"


class Claim(NamedTuple):
  """One published result.

  Attributes:
    method: name of the method by its authors.
    source: authors, year and venue.
    accuracy: as claimed, in percent.
    protocol: split, and the split used to select the epoch.
    pretrained: data of the pretraining, or "no".
    caveats: caveats for comparing the result with others.
  """

  method: str
  source: str
  accuracy: float
  protocol: str = _TEST_SET
  pretrained: str = UNKNOWN
  caveats: str = ""


FER2013 = (
  Claim(
    "EmoSynthNet, MAM-SoftMax + SCE",
    "the thesis, table 5.1",
    93.79,
    "28,709 / 7,178: PublicTest and PrivateTest together; how the epoch was chosen: "
    "not stated",
    "not stated",
    "human accuracy is about 65 %, no single network from scratch, chosen on "
    "PublicTest, was found far above 72.6 %; pixel form, standard deviation and seeds "
    "not stated; 19 % of PrivateTest have a near-duplicate in another split",
  ),
  Claim(
    "PAtt-Lite",
    "Ngwe et al. 2023, arXiv:2306.09626, github.com/JLREx/PAtt-Lite",
    92.50,
    _TEST_SET,
    "ImageNet (MobileNetV1)",
    "attention across the images of a batch: issue 6 (confirmed by an author) and 13",
  ),
  Claim(
    "ResEmoteNet (not in the thesis)",
    "Roy et al. 2024, arXiv:2409.10545, github.com/ArnabKumarRoy02/ResEmoteNet",
    79.79,
    _TEST_SET,
    UNKNOWN,
    "issues 13, 16, 23, 34, 39: reproductions have 58 to 72 %; 32, 40, 49: 90 % and "
    "more on the author's files; 42, 47: augmentation before the split",
  ),
  Claim(
    "Ensemble of ResMaskingNet and 6 others",
    "Pham et al. 2020, github.com/phamquiluan/ResidualMaskingNetwork",
    76.82,
    "private test; epoch chosen by validation accuracy (README)",
    "ImageNet (issue 7)",
    "mean of seven networks; the weights of some are lost (issue 46)",
  ),
  Claim(
    "EmoNeXt",
    "El Boudouri and Bohi 2023, arXiv:2501.08199, github.com/yelboudouri/EmoNeXt",
    76.12,
    "test folder; epoch chosen on a validation folder (train.py)",
    "ImageNet (models.py)",
    "ten crops averaged at test time, one seed (train.py); issue 6: reproductions of "
    "the tiny variant have 71.4 and 71.6",
  ),
  Claim("Segmentation VGG-19", "as the thesis quotes it, [125]", 75.97),
  Claim("Local learning, deep + BOW", "as the thesis quotes it, [69]", 75.42),
  Claim("LHC-Net", "as the thesis quotes it, [121]", 74.42),
  Claim("LHC-NetC", "as the thesis quotes it, [121]", 74.28),
  Claim(
    "Residual Masking Network",
    "Pham et al. 2020, github.com/phamquiluan/ResidualMaskingNetwork",
    74.14,
    "private test; epoch chosen by validation accuracy (README)",
    "ImageNet (issue 7)",
    "issues 9, 41: reproductions have 65.6 to 73.6",
  ),
  Claim(
    "ResNet18 with tricks",
    "LetheSec, github.com/LetheSec/Fer2013-Facial-Emotion-Recognition-Pytorch",
    73.70,
    "PrivateTest; epoch and learning rate chosen on PrivateTest (dataset.py, train.py)",
    "no",
    "chosen on the split that is reported; ten crops averaged; its table lists 73.28 "
    "below as PrivateTest, which it is not",
  ),
  Claim(
    "VGGNet",
    "Khaireddin and Chen 2021, arXiv:2105.03588, github.com/usef-kh/fer",
    73.28,
    "PublicTest, ten crops averaged; rate and epoch chosen on PrivateTest "
    "(data/fer2013.py)",
    "no",
    "no PrivateTest accuracy: the splits are swapped, and the notebook's confusion "
    "matrix has PublicTest's class counts; reproductions have 72.0 to 72.1",
  ),
  Claim("CNNs and BOVW + global SVM", "as the thesis quotes it, [122]", 73.25),
  Claim("ResNet50", "as the thesis quotes it, [127]", 73.20),
  Claim(
    "VGG19 (not in the thesis)",
    "github.com/WuJie1010/Facial-Expression-Recognition.Pytorch",
    73.11,
    "PrivateTest, ten crops averaged; best of 250 epochs on PrivateTest "
    "(mainpro_FER.py)",
    "no",
    "issue 27: about 72.6 where the epoch is chosen on PublicTest",
  ),
  Claim("SE-Net50", "as the thesis quotes it, [127]", 72.50),
  Claim("CNN hyperparameter optimization", "as the thesis quotes it, [78]", 72.16),
  Claim("Ad-Corre", "as the thesis quotes it, [74]", 72.03),
)

_CHOSEN_ON_TEST = "RAF-DB's test split; epoch chosen on it"

RAF_DB = (
  Claim(
    "ResEmoteNet (not in the thesis)",
    "Roy et al. 2024, arXiv:2409.10545, github.com/ArnabKumarRoy02/ResEmoteNet",
    94.76,
    "test; validation is a fifth of the augmented training images (issue 36)",
    UNKNOWN,
    "issue 36: augmented, then split; issue 50: 36 % with its own checkpoint",
  ),
  Claim(
    "EmoSynthNet, MAM-SoftMax + SCE",
    "the thesis, table 5.2",
    91.94,
    "test set of 3,068; how the epoch was chosen: not stated",
    "not stated",
    "standard deviation and seeds not stated; networks from scratch reach 80 to 85 %",
  ),
  Claim(
    "DDAMFN",
    "Zhang et al. 2023, doi 10.3390/electronics12173595, "
    "github.com/SainingZhang/DDAMFN",
    91.35,
    'the folder "val", on which the epoch was chosen (rafdb_train.py)',
    "faces (MS-Celeb-1M, issue 16)",
    "issues 9, 17: reproductions have 89.9 and 91.0; no seed",
  ),
  Claim("ViT-base + MAE", "as the thesis quotes it, [131]", 91.07),
  Claim("TransFER", "as the thesis quotes it, [132]", 90.91),
  Claim(
    "EAC",
    "github.com/zyh-uaiaaaa/Erasing-Attention-Consistency; the thesis's [72]",
    90.35,
    "test, evaluated every epoch, no validation split (src/main.py)",
    "yes (ResNet-50)",
    "which of the epochs is reported: unknown to us",
  ),
  Claim(
    "DAN",
    "github.com/yaoing/DAN; the thesis's [129]",
    89.70,
    f"{_CHOSEN_ON_TEST} (rafdb.py)",
    "faces (MS-Celeb-1M)",
    "issues 6, 22: reproductions have 89.0; no seed set, according to the author",
  ),
  Claim("RUL (ResNet-18)", "as the thesis quotes it, [70]", 88.98),
  Claim("PSR (VGG-16)", "as the thesis quotes it, [128]", 88.98),
  Claim("MVIT", "as the thesis quotes it, [133]", 88.62),
  Claim(
    "EfficientFace",
    "Zhao et al. 2021, github.com/zengqunzhao/EfficientFace",
    88.36,
    _TEST_SET,
    "yes (README)",
  ),
  Claim(
    "MA-Net",
    "Zhao et al. 2021, github.com/zengqunzhao/MA-Net",
    88.36,
    f"{_CHOSEN_ON_TEST} (main.py)",
    "faces (MS-Celeb-1M)",
    "issue 10: no fixed seed, according to the author; the thesis has the same number "
    "in the row above",
  ),
  Claim("DACL (ResNet-18)", "as the thesis quotes it, [116]", 87.78),
  Claim("MixAugment", "as the thesis quotes it, [134]", 87.54),
  Claim("SCN", "as the thesis quotes it, [135]", 87.03),
  Claim("RAN", "as the thesis quotes it, [136]", 86.90),
  Claim("gACNN", "as the thesis quotes it, [137]", 85.07),
)

# Folds by subject or by frame: results on CK+ cannot be interpreted without it.
_FOLDS = "folds, classes and frames: unknown to us"

CK_PLUS = (
  Claim(
    "EmoSynthNet, MAM-SoftMax + SCE",
    "the thesis, table 5.3",
    100.00,
    "10 folds; by subject or by frame: not stated; last two frames and the first, "
    "contempt merged with neutral",
    "FER-2013 and RAF-DB",
    "frames of a sequence are near-duplicates: folds by frame leak",
  ),
  Claim(
    "PAtt-Lite",
    "Ngwe et al. 2023, arXiv:2306.09626, github.com/JLREx/PAtt-Lite",
    100.00,
    _FOLDS,
    "ImageNet (MobileNetV1)",
    "attention across the images of a batch: issues 6 and 13",
  ),
  Claim(
    "ViT + SE",
    "Aouayeb et al. 2021, arXiv:2107.03107; the thesis's [138]",
    99.8,
    "7 expressions; folds: unknown to us",
  ),
  Claim("FAN", "as the thesis quotes it, [75]", 99.7, _FOLDS),
  Claim("FDRL", "as the thesis quotes it, [106]", 99.54, _FOLDS),
  Claim("FN2EN", "as the thesis quotes it, [75]", 98.6, _FOLDS),
  Claim("ST network", "as the thesis quotes it, [140]", 98.50, _FOLDS),
  Claim(
    "Nonlinear eval on SL + SSL Puzzling (B0)",
    "as the thesis quotes it, [139]",
    98.23,
    _FOLDS,
  ),
  Claim("DeepEmotion", "as the thesis quotes it, [141]", 98.0, _FOLDS),
  Claim("IF-GAN", "arXiv:1903.08051; as the thesis quotes it, [142]", 97.52, _FOLDS),
  Claim("SCAN-CCI", "as the thesis quotes it, [142]", 97.31, _FOLDS),
  Claim("PPDN", "as the thesis quotes it, [143]", 97.3, _FOLDS),
  Claim("ST-RNN", "as the thesis quotes it, [141]", 97.2, _FOLDS),
  Claim("DTAGN", "as the thesis quotes it, [144]", 97.2, _FOLDS),
  Claim("pACNN", "as the thesis quotes it, [145]", 97.03, _FOLDS),
  Claim("gACNN", "as the thesis quotes it, [145]", 96.40, _FOLDS),
  Claim(
    "VGG19 (not in the thesis)",
    "github.com/WuJie1010/Facial-Expression-Recognition.Pytorch",
    94.64,
    "10 folds; by subject or by frame: unknown to us",
    UNKNOWN,
    "issues 18, 49: reproductions have 88 to 90",
  ),
)
