"""The rows of the table: each module measures one and returns its figures. What a figure should reach stands there."""
