"""What the examples look at: CIFAR-100 by torchvision, or any folder of pictures in one sub-folder for each class."""

from maquette.clip import open_picture
from maquette.clip.evaluation.labelled_pictures import read_labelled


class FolderOfClasses:
    """Item i is (picture, class_id), as in torchvision's data sets; `classes` are the sub-folders' names."""

    def __init__(self, folder, transform=None):
        found = read_labelled(folder)
        self.pictures, self.targets, self.classes = found.pictures, found.targets, found.labels
        self.transform = transform

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, number):
        picture = open_picture(self.pictures[number])
        return (self.transform(picture) if self.transform else picture), self.targets[number]


def cifar100(folder, train, transform=None):
    """Its training or test part, downloaded to `folder` if it is not there."""
    from torchvision.datasets import CIFAR100

    return CIFAR100(folder, train=train, download=True, transform=transform)
