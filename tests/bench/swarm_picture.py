#!/usr/bin/env python3
"""Draws the history of a simulated swarm: swarm_picture.py SWARM.json > SWARM.svg

A band for each leecher, in it a line for each piece, in the order in which the seed gave them away; a bar from the
first block to the last, in the colour of who gave it. The JSON comes from
SWARM_LEECHERS=8 SWARM_PIECES=64 SWARM_TIMELINE=swarm.json \\
  cargo test --release --test simulation -- --ignored a_swarm_of_your_own
"""
import json
import sys

WIDTH, LINE, GAP, LEFT, TOP = 760, 1.5, 8, 70, 40


def colour(giver, members):
    """The seed is black, the others are spread over the colour wheel."""
    return "#111" if giver == 0 else f"hsl({(giver - 1) * 360 // max(1, members - 1)},65%,50%)"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        gifts = json.load(file)
    members = 1 + max(max(gift["from"], gift["to"]) for gift in gifts)
    end = max(gift["ended"] for gift in gifts)
    order = {}
    for gift in gifts:
        order.setdefault(gift["piece"], len(order))
    band = len(order) * LINE + GAP
    height = TOP + band * (members - 1) + 24
    across = (WIDTH - LEFT - 10) / end
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
          'font-family="sans-serif" font-size="11">')
    print(f'<rect width="{WIDTH}" height="{height:.0f}" fill="#fff"/>')
    print(f'<text x="{LEFT}" y="18">Who gave which piece to whom: {members - 1} leechers, {len(order)} pieces, '
          f'{end:.1f} s. Black: from the seed; else from the leecher of that colour.</text>')
    for member in range(1, members):
        top = TOP + (member - 1) * band
        print(f'<text x="4" y="{top + band / 2:.0f}" fill="{colour(member, members)}">leecher {member}</text>')
        print(f'<rect x="{LEFT}" y="{top:.1f}" width="{WIDTH - LEFT - 10}" height="{band - GAP:.1f}" fill="#f4f4f4"/>')
    for gift in gifts:
        left = LEFT + gift["begun"] * across
        long = max(1.0, (gift["ended"] - gift["begun"]) * across)
        top = TOP + (gift["to"] - 1) * band + order[gift["piece"]] * LINE
        print(f'<rect x="{left:.1f}" y="{top:.1f}" width="{long:.1f}" height="{LINE}" '
              f'fill="{colour(gift["from"], members)}"/>')
    for second in range(int(end) + 1):
        print(f'<text x="{LEFT + second * across:.0f}" y="{height - 8:.0f}" fill="#666">{second} s</text>')
    print("</svg>")


main()
