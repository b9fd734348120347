// Reads Adaptive Cards, one a line, as Microsoft's own library does, and prints what it finds wrong with each.
const cards = require("adaptivecards/dist/adaptivecards.js");

require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const card = new cards.AdaptiveCard();
    const context = new cards.SerializationContext();
    const read = JSON.parse(line);
    card.parse(read, context);
    const found = [];
    for (let each = 0; each < context.eventCount; each++) found.push(context.getEventAt(each).message);
    for (const event of card.validateProperties().validationEvents) found.push(event.message);
    if (card.getItemCount() !== read.body.length) found.push("elements were left out");
    console.log(JSON.stringify(found));
  });
