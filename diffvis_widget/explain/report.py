def evaluation(folder):
    return []


def write(folder):
    pass


def roles(folder):
    return []
